"""Block attention against its eager formula, torch's attention and finite differences."""

import pytest
import torch
from helpers.eager_kernels import block_attention_eager
from helpers.numbers_near import BF16, distance, draw
from helpers.tolerances import tolerance
from torch import Tensor

from xft.kernels import attention_blocks as blocks
from xft.kernels import block_attention, shapes


def _heads(dtype: torch.dtype, length: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [
        (2 * torch.randn(heads, length, 8, generator=generator, dtype=torch.float64))
        .to(dtype)
        .requires_grad_()
        for heads in (6, 2, 2)
    ]


def _use_small_blocks(monkeypatch: pytest.MonkeyPatch, saved_probs_limit: int) -> None:
    """Use blocks of four queries; a short block is padded to two."""
    for name, value in {
        "BLOCK": 4,
        "LONG_BLOCK": 4,
        "MULTIPLE": 2,
        "SAVED_PROBS_LIMIT": saved_probs_limit,
    }.items():
        monkeypatch.setattr(blocks, name, value)
    monkeypatch.setattr(shapes, "MULTIPLE", blocks.MULTIPLE)


@pytest.mark.parametrize("length", [0, 1, 8, 11, 176, 177, 512, 513, 1024, 5000])
def test_blocks_cover_sample_once_and_have_one_size(length: int) -> None:
    result = list(blocks._blocks(7, 7 + length, None))
    rows = [
        row for block in result for row in range(block.rows.start, block.rows.start + block.num_queries)
    ]
    assert rows == list(range(7, 7 + length))
    limit = blocks.BLOCK if length <= blocks.SAVED_PROBS_LIMIT else blocks.LONG_BLOCK
    sizes = [block.rows.stop - block.rows.start for block in result]
    assert len(set(sizes[:-1])) <= 1
    assert all(size <= limit and size % blocks.MULTIPLE == 0 for size in sizes)
    assert len(sizes) == -(-length // limit)


@pytest.mark.parametrize("window", [None, 1, 3, 7, 20])
@pytest.mark.parametrize("saved_probs_limit", [0, 100])
def test_block_attention_gradient_equals_finite_differences(
    monkeypatch: pytest.MonkeyPatch, window: int | None, saved_probs_limit: int
) -> None:
    """A sample of eleven tokens has three blocks, the last one short."""
    _use_small_blocks(monkeypatch, saved_probs_limit)

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return block_attention(query, key, value, 0.3, window)

    inputs = _heads(torch.float64, 11)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    torch.testing.assert_close(run(*inputs), block_attention_eager(*inputs, 0.3, window))


@pytest.mark.parametrize("length", [1, 40, 300, 600])
@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, tolerance(torch.float32, 3 * 600)), (torch.bfloat16, 2 * BF16)],
    ids=["fp32", "bf16"],
)
def test_block_attention_equals_attention_of_torch_in_fp64(
    dtype: torch.dtype, bound: float, length: int
) -> None:
    """bf16: probabilities and their gradient are rounded once each; the error of torch's attention in bf16 is as large."""
    inputs = _heads(dtype, length)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    upstream = torch.randn(6, length, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    got = block_attention(*inputs, 0.35)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(tensor[None] for tensor in exact), is_causal=True, scale=0.35, enable_gqa=True
    )[0]
    results = [got, *torch.autograd.grad(got, inputs, upstream.to(dtype))]
    references = [expected, *torch.autograd.grad(expected, exact, upstream)]
    for result, reference in zip(results, references, strict=True):
        assert result.dtype == dtype
        error = float((result.detach().double() - reference.detach()).norm())
        assert error <= bound * float(reference.detach().norm()) + 1e-9


def test_block_attention_of_long_sample_saves_no_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SAVED_PROBS_LIMIT", 100)
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        block_attention(*_heads(torch.bfloat16, 300), 0.35)
    assert max(sizes) == 6 * 300 * 8


@pytest.mark.parametrize("window", [None, 5])
def test_block_attention_of_packed_samples_equals_attention_of_single_samples(
    monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    """Samples of several blocks, shorter and longer than the limit of saved probabilities."""
    _use_small_blocks(monkeypatch, saved_probs_limit=6)
    lengths = [3, 11, 1, 6]
    inputs = [draw(heads, 21, 8, seed=heads).requires_grad_() for heads in (6, 2, 3)]
    inputs[2] = inputs[2].detach()[:2].requires_grad_()
    got = block_attention(*inputs, 0.3, window, lengths)
    samples = zip(*(tensor.split(lengths, dim=1) for tensor in inputs), strict=True)
    expected = torch.cat([block_attention_eager(*sample, 0.3, window) for sample in samples], dim=1)
    torch.testing.assert_close(got, expected)
    upstream = draw(6, 21, 8, seed=9)
    grads, expected_grads = (torch.autograd.grad(output, inputs, upstream) for output in (got, expected))
    torch.testing.assert_close(grads, expected_grads)


def test_scores_of_bf16_are_accumulated_in_fp32_and_restore_the_setting() -> None:
    """bf16 inputs have exact products in fp32; only the order of the sums differs."""
    setting = torch.backends.mkldnn.matmul
    previous = setting.fp32_precision
    query, key = draw(2, 128, 64).bfloat16(), draw(2, 128, 64, seed=1).bfloat16()
    scores = blocks._scores(query, key, 0.125)
    assert scores.dtype == torch.float32
    assert setting.fp32_precision == previous
    exact = query.double() @ key.double().transpose(1, 2) / 8
    assert distance(scores, exact) < tolerance(torch.float32, 64)
