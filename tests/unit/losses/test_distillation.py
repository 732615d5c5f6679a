"""Generalized Jensen-Shannon divergence against the numbers of TRL 1.16, and in chunks."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from xft.losses import generalized_jsd, token_divergence

TRL_SUMS = [
    # beta, temperature, sum over the tokens, sum of the squares of its gradient
    (0.0, 1.0, 4.017677203230, 1.329149856502),
    (0.0, 0.7, 6.315330842402, 4.132856930287),
    (0.1, 1.0, 0.333903319131, 0.007680826078),
    (0.1, 0.7, 0.485823117597, 0.018367535344),
    (0.5, 1.0, 0.837357407982, 0.041939472080),
    (0.5, 0.7, 1.164325483676, 0.099708417934),
    (0.9, 1.0, 0.324876830305, 0.007343684421),
    (0.9, 0.7, 0.472380457055, 0.020815547238),
    (1.0, 1.0, 3.857279216795, 1.194474951184),
    (1.0, 0.7, 6.003774888366, 4.391446823237),
]


def logits(shift: float) -> Tensor:
    return 3 * torch.sin(1.7 * torch.arange(28, dtype=torch.float64).view(4, 7) + shift)


@pytest.mark.parametrize(("beta", "temperature", "total", "squares"), TRL_SUMS)
def test_divergence_and_gradient_are_those_of_trl(
    beta: float, temperature: float, total: float, squares: float
) -> None:
    """``GKDTrainer.generalized_jsd_loss`` with ``reduction="sum"``, in fp64."""
    student = logits(0.0).requires_grad_()
    loss = generalized_jsd(student, logits(0.9), beta, temperature).sum()
    (gradient,) = torch.autograd.grad(loss, student)
    assert float(loss.detach()) == pytest.approx(total, abs=1e-10)
    assert float(gradient.square().sum()) == pytest.approx(squares, abs=1e-10)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_divergence_from_itself_is_zero(beta: float) -> None:
    assert generalized_jsd(logits(0.0), logits(0.0), beta).abs().max() < 1e-12


def test_columns_that_pad_a_vocabulary_are_left_out() -> None:
    padded = torch.cat([logits(0.9), torch.full((4, 3), 5.0)], dim=1)
    expected = generalized_jsd(logits(0.0), logits(0.9), 0.5)
    assert torch.equal(generalized_jsd(logits(0.0), padded, 0.5), expected)
    assert torch.equal(
        generalized_jsd(torch.cat([logits(0.0), padded[:, 7:]], dim=1), logits(0.9), 0.5), expected
    )


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_have_the_values_and_gradients_of_the_whole(chunk_size: int) -> None:
    torch.manual_seed(0)
    head, teacher_head = (nn.Linear(6, 17, bias=False, dtype=torch.float64) for _ in range(2))
    states = torch.randn(10, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(10, 6, dtype=torch.float64)
    weights = torch.linspace(-1, 2, 10, dtype=torch.float64)
    sizes = []

    def counted_head(chunk: Tensor) -> Tensor:
        sizes.append(len(chunk))
        return teacher_head(chunk)

    divergence = partial(generalized_jsd, beta=0.3, temperature=0.8)
    whole = divergence(head(states), teacher_head(teacher))
    expected = torch.autograd.grad((whole * weights).sum(), [states, head.weight])
    got = token_divergence(divergence, (states, head), (teacher, counted_head), chunk_size)
    torch.testing.assert_close(got, whole)
    gradients = torch.autograd.grad((got * weights).sum(), [states, head.weight])
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference)
    assert max(sizes) <= chunk_size
