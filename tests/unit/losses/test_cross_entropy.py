"""The loss against hand computation and torch's own."""

import math

import pytest
import torch
from helpers.tolerances import tolerance
from torch.nn import functional

from xft.losses import cross_entropy_sum


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary_each() -> None:
    loss = cross_entropy_sum(torch.zeros(3, 8), torch.tensor([0, 3, 7]))
    assert float(loss) == pytest.approx(3 * math.log(8))


@pytest.mark.parametrize("chunk_size", [1, 3, 5, 100])
def test_chunks_change_neither_loss_nor_gradient(chunk_size: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(10, 17, requires_grad=True)
    targets = torch.randint(0, 17, (10,))
    expected = functional.cross_entropy(logits, targets, reduction="sum")
    (wanted,) = torch.autograd.grad(expected, logits)
    loss = cross_entropy_sum(logits, targets, chunk_size)
    (got,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(got, wanted)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    logits = torch.randn(700, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.arange(700) % 50
    expected = functional.cross_entropy(logits.double(), targets, reduction="sum")
    got = cross_entropy_sum(logits, targets)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(float(expected), rel=tolerance(torch.float32, 700))


def test_no_targets_cost_nothing_and_have_a_gradient_of_zeros() -> None:
    logits = torch.randn(0, 5, requires_grad=True)
    loss = cross_entropy_sum(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert logits.grad.shape == (0, 5)


def test_a_mismatch_of_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="targets"):
        cross_entropy_sum(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long))
