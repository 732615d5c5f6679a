"""Attention in blocks against its reference, torch's own, and finite differences."""

import pytest
import torch
from helpers.numbers_near import BF16, distance, draw
from helpers.tolerances import tolerance
from torch import Tensor

from xft.kernels import attention_blocks as blocks
from xft.kernels import block_attention, block_attention_eager, shapes


def _heads(dtype: torch.dtype, length: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = [(6, length, 8), (2, length, 8), (2, length, 8)]
    return [
        (2 * torch.randn(each, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
        for each in shapes
    ]


def _small_blocks(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Blocks of four queries, of which a short one is filled up to two."""
    for name, value in {"BLOCK": 4, "LONG_BLOCK": 4, "MULTIPLE": 2, "KEPT": kept}.items():
        monkeypatch.setattr(blocks, name, value)
    monkeypatch.setattr(shapes, "MULTIPLE", blocks.MULTIPLE)


@pytest.mark.parametrize("length", [0, 1, 8, 11, 176, 177, 512, 513, 1024, 5000])
def test_blocks_of_a_sample_cover_it_once_and_are_of_one_size(length: int) -> None:
    found = list(blocks._blocks(7, 7 + length, None))
    assert [row for each in found for row in range(each.rows.start, each.rows.start + each.own)] == list(
        range(7, 7 + length)
    )
    most = blocks.BLOCK if length <= blocks.KEPT else blocks.LONG_BLOCK
    sizes = [each.rows.stop - each.rows.start for each in found]
    assert len(set(sizes[:-1])) <= 1
    assert all(size <= most and size % blocks.MULTIPLE == 0 for size in sizes)
    assert len(sizes) == -(-length // most)


@pytest.mark.parametrize("window", [None, 1, 3, 7, 20])
@pytest.mark.parametrize("kept", [0, 100])
def test_gradient_of_block_attention_is_that_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch, window: int | None, kept: int
) -> None:
    """A sample of eleven has three blocks, the last of them short."""
    _small_blocks(monkeypatch, kept)

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
def test_block_attention_is_that_of_torch(dtype: torch.dtype, bound: float, length: int) -> None:
    """Against torch's attention in fp64. bf16: probabilities and their gradient are rounded, once each; torch's
    own attention in bf16 is as far away."""
    inputs = _heads(dtype, length)
    exact = [each.detach().double().requires_grad_() for each in inputs]
    upstream = torch.randn(6, length, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    got = block_attention(*inputs, 0.35)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(each[None] for each in exact), is_causal=True, scale=0.35, enable_gqa=True
    )[0]
    found = [got, *torch.autograd.grad(got, inputs, upstream.to(dtype))]
    for one, two in zip(found, [expected, *torch.autograd.grad(expected, exact, upstream)], strict=True):
        assert one.dtype == dtype
        assert float((one.detach().double() - two).norm()) <= bound * float(two.detach().norm()) + 1e-9


def test_block_attention_keeps_no_square_of_a_long_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "KEPT", 100)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda each: kept.append(each.numel()) or each, lambda x: x
    ):
        block_attention(*_heads(torch.bfloat16, 300), 0.35)
    assert max(kept) == 6 * 300 * 8


@pytest.mark.parametrize("window", [None, 5])
def test_samples_of_a_row_are_attended_to_as_each_alone(
    monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    """Samples of several blocks, on either side of what is kept."""
    _small_blocks(monkeypatch, kept=6)
    lengths = [3, 11, 1, 6]
    inputs = [draw(each, 21, 8, seed=each).requires_grad_() for each in (6, 2, 3)]
    inputs[2] = inputs[2].detach()[:2].requires_grad_()
    found = block_attention(*inputs, 0.3, window, lengths)
    parts = zip(*(each.split(lengths, dim=1) for each in inputs), strict=True)
    expected = torch.cat([block_attention_eager(*each, 0.3, window) for each in parts], dim=1)
    torch.testing.assert_close(found, expected)
    upstream = draw(6, 21, 8, seed=9)
    results = zip(*(torch.autograd.grad(each, inputs, upstream) for each in (found, expected)), strict=True)
    for got, wanted in results:
        torch.testing.assert_close(got, wanted)


def test_scores_of_bf16_are_exact_and_the_setting_is_put_back() -> None:
    """Inputs that bf16 holds: their products lose nothing, so what is left is the order of sums."""
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision
    query, key = draw(2, 128, 64).bfloat16(), draw(2, 128, 64, seed=1).bfloat16()
    scores = blocks._scores(query, key, 0.125)
    assert scores.dtype == torch.float32
    assert settings.fp32_precision == before
    exact = query.double() @ key.double().transpose(1, 2) / 8
    assert distance(scores, exact) < tolerance(torch.float32, 64)
