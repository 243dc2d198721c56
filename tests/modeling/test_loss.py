import pytest
import torch
from torch.nn.functional import cross_entropy

from tuneline.modeling import loss
from tuneline.modeling.loss import linear_cross_entropy


def inputs(count: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(count, 16, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(50, 16, generator=generator, dtype=dtype).requires_grad_()
    return hidden, weight, torch.randint(0, 50, (count,), generator=generator)


def plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    logits = hidden @ weight.T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return cross_entropy(logits, targets, reduction="sum"), (logits.argmax(-1) == targets).sum()


@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("count", [1, loss.CPU_CHUNK, 2 * loss.CPU_CHUNK + 3])
def test_loss_accuracy_and_gradients_equal_those_of_torch(count: int, softcap: float | None) -> None:
    hidden, weight, targets = inputs(count)
    expected, expected_correct = plain(hidden, weight, targets, softcap)
    (expected / count).backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    expected_gradients = hidden.grad.clone(), weight.grad.clone()
    hidden.grad = weight.grad = None
    value, correct = linear_cross_entropy(hidden, weight, targets, 1 / count, softcap=softcap)
    value.backward()
    assert torch.allclose(value, expected / count, rtol=1e-6)
    assert int(correct) == int(expected_correct)
    for actual, wanted in zip((hidden.grad, weight.grad), expected_gradients, strict=True):
        assert actual is not None
        assert torch.allclose(actual, wanted, atol=1e-6)


@pytest.mark.parametrize("softcap", [None, 4.0])
def test_gradients_agree_with_finite_differences(softcap: float | None) -> None:
    hidden, weight, targets = inputs(5, torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, targets, 0.5, softcap=softcap)[0], (hidden, weight))


def test_the_gradient_follows_what_is_done_with_the_loss() -> None:
    hidden, weight, targets = inputs(5)
    linear_cross_entropy(hidden, weight, targets)[0].backward()
    assert hidden.grad is not None
    once = hidden.grad.clone()
    hidden.grad = None
    (3 * linear_cross_entropy(hidden, weight, targets)[0]).backward()
    assert torch.allclose(hidden.grad, 3 * once)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, targets = inputs(5)
    weight.requires_grad_(False)
    linear_cross_entropy(hidden, weight, targets)[0].backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_products_in_bf16_keep_fp32_gradients_close() -> None:
    hidden, weight, targets = inputs(300)
    expected, _ = plain(hidden, weight, targets, None)
    value, _ = linear_cross_entropy(hidden, weight, targets, dtype=torch.bfloat16)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.allclose(value, expected, rtol=1e-2)
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_nothing_is_computed_for_gradients_when_none_are_wanted() -> None:
    hidden, weight, targets = inputs(5)
    with torch.no_grad():
        value, _ = linear_cross_entropy(hidden, weight, targets)
    assert not value.requires_grad
