"""Causal attention inside each document of a packed row, exact by construction: no position ever sees another document.

Registered with transformers as `"packed"`; the model is called with `document_lengths`, one length a document, in row order.
No mask function is registered beside it, so transformers builds no mask (and pays for none).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

PACKED = "packed"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    document_lengths: Sequence[int],
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention output `[1, tokens, heads, head_dim]` of one packed row.

    `query` is `[1, heads, tokens, head_dim]`; `key` and `value` may have fewer heads (grouped queries). One fused call a
    document: the cost is the sum of the squared lengths, where a block mask would pay the square of the whole row.
    Attention dropout is left out: the same data and seed must give the same weights.
    """
    lengths = list(document_lengths)
    # A split has one concatenation as its backward; slices would each write a row-sized zero gradient.
    documents = zip(*(tensor.split_with_sizes(lengths, 2) for tensor in (query, key, value)), strict=True)
    outputs = [_attend(q, k, v, scaling, sliding_window, softcap) for q, k, v in documents]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, sliding_window: int | None, softcap: float | None
) -> torch.Tensor:
    """Causal attention of one document."""
    length, grouped = query.shape[2], query.shape[1] != key.shape[1]
    slides = sliding_window is not None and sliding_window < length
    if softcap is None and not slides:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    visible = query.new_ones(length, length, dtype=torch.bool).tril()
    if slides and sliding_window is not None:
        visible = visible.triu(1 - sliding_window)  # a window of w tokens holds the position itself and the w - 1 before it
    if softcap is None:
        return scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scaling, enable_gqa=grouped)
    return _capped_attention(query, key, value, visible, query.shape[-1] ** -0.5 if scaling is None else scaling, softcap)


def _capped_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visible: torch.Tensor, scaling: float, softcap: float) -> torch.Tensor:
    """Attention with capped scores (Gemma 2), for which there is no fused kernel."""
    copies = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(copies, 1), value.repeat_interleave(copies, 1)
    scores = (query @ key.transpose(2, 3) * (scaling / softcap)).tanh() * softcap
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1, dtype=torch.float32)
    return weights.to(value.dtype) @ value


def register() -> None:
    """Make `attn_implementation="packed"` known to transformers. Calling it twice changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED, packed_attention)
