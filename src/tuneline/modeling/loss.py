"""Cross-entropy through the output head without ever holding all logits."""

from typing import Any

import torch

CHUNK = 256
"""Positions a chunk. 256 x 8,192 fp32 logits are 8 MiB; on a GPU take thousands (facts: chunks under 8k are slow there)."""


class LinearCrossEntropy(torch.autograd.Function):
    """`scale * sum(cross_entropy(hidden @ weight.T, targets))` and how many of the targets were the most likely token.

    `hidden` is `[n, width]`, `weight` `[vocabulary, width]`, `targets` `[n]`; give only the trained positions. Works chunk by
    chunk and makes the gradients on the way forward, so logits are computed once and never kept.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        needs_gradient = hidden.requires_grad or weight.requires_grad
        hidden_gradient = torch.empty_like(hidden) if needs_gradient else None
        weight_gradient = torch.zeros_like(weight) if weight.requires_grad else None
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        for start in range(0, hidden.shape[0], CHUNK):
            part, target = hidden[start : start + CHUNK], targets[start : start + CHUNK]
            logits = (part @ weight.T).float()
            correct += (logits.argmax(-1) == target).sum()
            log_normaliser = logits.logsumexp(-1, keepdim=True)
            loss += (log_normaliser.squeeze(1) - logits.gather(1, target[:, None]).squeeze(1)).sum()
            if hidden_gradient is not None:
                gradient = logits.sub_(log_normaliser).exp_()
                gradient[torch.arange(len(target), device=gradient.device), target] -= 1
                gradient = gradient.mul_(scale).to(hidden.dtype)
                torch.mm(gradient, weight, out=hidden_gradient[start : start + CHUNK])
                if weight_gradient is not None:
                    weight_gradient.addmm_(gradient.T, part)
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.mark_non_differentiable(correct)
        return loss * scale, correct

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        outer = gradients[0]
        return (
            None if hidden_gradient is None else hidden_gradient * outer,
            None if weight_gradient is None else weight_gradient * outer,
            None,
            None,
        )


def linear_cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed loss times `scale`, and the number of right predictions; see `LinearCrossEntropy`."""
    loss, correct = LinearCrossEntropy.apply(hidden, weight, targets, scale)  # type: ignore[no-untyped-call]
    return loss, correct
