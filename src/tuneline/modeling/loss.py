"""Cross-entropy through the output head without ever holding all logits."""

from typing import Any

import torch

CPU_CHUNK = 256
"""Positions a chunk on a CPU: 256 x 8,192 fp32 logits are 8 MiB and stay in its cache."""
GPU_CHUNK = 8_192
"""Positions a chunk on a GPU, where smaller matrices leave it idle."""


class LinearCrossEntropy(torch.autograd.Function):
    """`scale * sum(cross_entropy(hidden @ weight.T, targets))` and how many of the targets were the most likely token.

    `hidden` is `[n, width]`, `weight` `[vocabulary, width]`, `targets` `[n]`; give only the trained positions. Works chunk by
    chunk and makes the gradients on the way forward, so logits are computed once and never kept. The products are computed in
    `dtype`, everything else and the sums over chunks in the inputs' own type.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: float, softcap: float | None, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_gradient = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        precise = torch.promote_types(dtype, torch.float32)
        loss = torch.zeros((), dtype=precise, device=hidden.device)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        head = weight.to(dtype)
        chunk = CPU_CHUNK if hidden.device.type == "cpu" else GPU_CHUNK
        for start in range(0, hidden.shape[0], chunk):
            part, target = hidden[start : start + chunk].to(dtype), targets[start : start + chunk]
            logits = (part @ head.T).to(precise)
            if softcap is not None:
                logits = logits.div_(softcap).tanh_().mul_(softcap)
            # `max` finds its place in half the time of `argmax`.
            correct += (logits.max(-1).indices == target).sum()
            log_probabilities = logits.log_softmax(-1)
            loss -= log_probabilities.gather(1, target[:, None]).sum()
            if hidden_gradient is None and weight_gradient is None:
                continue
            gradient = log_probabilities.exp_()
            gradient[torch.arange(len(target), device=gradient.device), target] -= 1
            if softcap is not None:
                gradient *= 1 - (logits / softcap).square_()
            gradient = gradient.to(dtype)
            if hidden_gradient is not None:
                hidden_gradient[start : start + chunk] = gradient @ head
            if weight_gradient is not None and weight_gradient.dtype == dtype:
                weight_gradient.addmm_(gradient.T, part)
            elif weight_gradient is not None:
                weight_gradient += gradient.T @ part
        # Scaled here and not in each chunk: these are far smaller than the logits.
        ctx.save_for_backward(*(None if gradient is None else gradient.mul_(scale) for gradient in (hidden_gradient, weight_gradient)))
        ctx.mark_non_differentiable(correct)
        return loss * scale, correct

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        own = (None if saved is None else saved * gradients[0] for saved in ctx.saved_tensors)
        return (*own, None, None, None, None)


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: float = 1.0, *, softcap: float | None = None, dtype: torch.dtype | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed loss times `scale`, and the number of right predictions; see `LinearCrossEntropy`."""
    loss, correct = LinearCrossEntropy.apply(hidden, weight, targets, scale, softcap, dtype or hidden.dtype)  # type: ignore[no-untyped-call]
    return loss, correct
