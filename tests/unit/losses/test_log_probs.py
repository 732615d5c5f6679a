"""Log-probabilities in chunks against torch, and their memory."""

import gc

import pytest
import torch
from helpers.tolerances import tolerance
from torch import Tensor, nn

from xft.losses import sum_by_sample, token_log_probs


def _problem() -> tuple[Tensor, Tensor, nn.Linear]:
    torch.manual_seed(0)
    head = nn.Linear(6, 17, bias=False, dtype=torch.float64)
    states = torch.randn(10, 6, dtype=torch.float64, requires_grad=True)
    return states, torch.randint(0, 17, (10,)), head


@pytest.mark.parametrize("chunk_size", [1, 3, 5, 10, 100])
def test_token_log_probs_in_chunks_equal_torch(chunk_size: int) -> None:
    states, targets, head = _problem()
    weights = torch.linspace(-1, 2, 10, dtype=torch.float64)
    whole = head(states).log_softmax(dim=-1)[torch.arange(10), targets]
    expected = torch.autograd.grad((whole * weights).sum(), [states, head.weight])
    got = token_log_probs(states, targets, head, chunk_size)
    gradients = torch.autograd.grad((got * weights).sum(), [states, head.weight])
    torch.testing.assert_close(got, whole)
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("number", [0, 1, 2, 10])
def test_token_log_probs_call_head_at_least_min_chunks_times(number: int) -> None:
    states, targets, head = _problem()
    sizes: list[int] = []

    def counted_head(chunk: Tensor) -> Tensor:
        sizes.append(len(chunk))
        return head(chunk)

    with torch.no_grad():
        got = token_log_probs(states[:number], targets[:number], counted_head, 4, min_chunks=5)
    assert len(sizes) == 5
    assert max(sizes) <= 4
    whole = head(states).log_softmax(dim=-1)[torch.arange(10), targets]
    torch.testing.assert_close(got, whole[:number])


def test_token_log_probs_gradient_equals_finite_differences() -> None:
    states, targets, head = _problem()
    assert torch.autograd.gradcheck(lambda states: token_log_probs(states, targets, head, 4), (states,))


def test_token_log_probs_of_bf16_logits_are_normalized_in_fp32() -> None:
    torch.manual_seed(0)
    logits = (10 * torch.randn(8, 5000)).bfloat16()
    targets = torch.randint(0, 5000, (8,))
    expected = logits.double().log_softmax(-1)[torch.arange(8), targets]
    got = token_log_probs(logits, targets, nn.Identity(), 3)
    assert got.dtype == torch.float32
    scale = float(logits.abs().max())
    bound = tolerance(torch.float32, 1, scale) + tolerance(
        torch.float32, 5000
    )  # two logits, and the log of a sum
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=bound)


def _largest_saved_tensor(chunk_size: int) -> int:
    """Return the size of the largest tensor that autograd saves for the backward pass."""
    states, targets, head = _problem()
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        token_log_probs(states, targets, head, chunk_size)
    gc.collect()
    return max(sizes)


def test_token_log_probs_save_logits_only_for_a_single_chunk() -> None:
    """10 targets times a vocabulary of 17 are 170 logits; 4 targets are 68. Also saved: the weight of the head (102) and
    the states (60)."""
    assert _largest_saved_tensor(10) == 170
    assert _largest_saved_tensor(4) <= 102


def test_token_log_probs_without_targets_have_zero_gradient() -> None:
    states, _, head = _problem()
    none = token_log_probs(states[:0], torch.zeros(0, dtype=torch.long), head)
    none.sum().backward()
    assert states.grad is not None
    assert head.weight.grad is not None
    assert float(states.grad.abs().sum()) == float(head.weight.grad.abs().sum()) == 0.0


def test_token_log_probs_with_missing_target_raises_value_error() -> None:
    with pytest.raises(ValueError, match="targets"):
        token_log_probs(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long), nn.Identity())


def test_sum_by_sample_sums_consecutive_values() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    assert sum_by_sample(values, [2, 0, 1, 1]).tolist() == [3.0, 0.0, 4.0, 8.0]
