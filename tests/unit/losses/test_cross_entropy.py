"""Summed cross-entropy against values by hand and torch."""

import math

import pytest
import torch
from helpers.tolerances import tolerance
from torch.nn import functional

from xft.losses import cross_entropy_sum


def test_cross_entropy_sum_of_uniform_logits_is_log_vocabulary_per_target() -> None:
    loss = cross_entropy_sum(torch.zeros(3, 8), torch.tensor([0, 3, 7]))
    assert float(loss) == pytest.approx(3 * math.log(8))


@pytest.mark.parametrize("chunk_size", [1, 3, 5, 100])
def test_cross_entropy_sum_in_chunks_equals_torch(chunk_size: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(10, 17, requires_grad=True)
    targets = torch.randint(0, 17, (10,))
    expected = functional.cross_entropy(logits, targets, reduction="sum")
    (expected_grad,) = torch.autograd.grad(expected, logits)
    loss = cross_entropy_sum(logits, targets, chunk_size)
    (grad,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grad, expected_grad)


def test_cross_entropy_sum_of_bf16_logits_is_computed_in_fp32() -> None:
    logits = torch.randn(700, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.arange(700) % 50
    expected = functional.cross_entropy(logits.double(), targets, reduction="sum")
    got = cross_entropy_sum(logits, targets)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(float(expected), rel=tolerance(torch.float32, 700))


def test_cross_entropy_sum_without_targets_is_zero_with_zero_gradient() -> None:
    logits = torch.randn(0, 5, requires_grad=True)
    loss = cross_entropy_sum(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert logits.grad.shape == (0, 5)


def test_cross_entropy_sum_with_missing_target_raises_value_error() -> None:
    with pytest.raises(ValueError, match="targets"):
        cross_entropy_sum(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long))
