"""Causal attention inside each document of a packed row, exact by construction: no position ever sees another document.

Registered with transformers as `"packed"`; the model is called with `document_lengths`, one length a document, in row order.
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
    document_lengths: Sequence[int],
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention output `[1, tokens, heads, head_dim]` of one packed row.

    `query` is `[1, heads, tokens, head_dim]`; `key` and `value` may have fewer heads (grouped queries). One fused call a
    document: the cost is the sum of the squared lengths, where a block mask would pay the square of the whole row.
    """
    lengths = list(document_lengths)
    grouped = query.shape[1] != key.shape[1]
    # `split` has one concatenation as its backward; slices would each write a row-sized zero gradient.
    documents = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    outputs = [scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped) for q, k, v in documents]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def register() -> None:
    """Make `attn_implementation="packed"` known to transformers. Calling it twice changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, lambda *_args, **_kwargs: None)
