"""Packed attention against attention over each sample alone, and against a dense mask."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_config
from helpers.tolerances import TINY_MODEL_FP32, assert_close_sums
from transformers import AutoModelForCausalLM

from xft.data import collate_padded, collate_padding_free
from xft.models import ATTN_IMPLEMENTATION, target_logits
from xft.models.attention import (
    _has_varlen,
    _varlen_attn,
    packed_attention,
    split_chunks,
    unused_mask,
)
from xft.types import IGNORE_INDEX, Sample


def _samples(lengths: list[int]) -> list[Sample]:
    generator = np.random.default_rng(0)
    out = []
    for length in lengths:
        ids = generator.integers(3, 90, length).astype(np.int32)
        labels = np.where(np.arange(length) < length // 2, IGNORE_INDEX, ids).astype(np.int32)
        out.append(Sample(ids, labels))
    return out


def _model(family: str, attention: str = ATTN_IMPLEMENTATION, **options: Any) -> Any:
    torch.manual_seed(0)
    config = tiny_config(family, 97)
    for name, value in options.items():
        setattr(config, name, value)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).double()


@pytest.mark.parametrize("family", ["llama", "qwen3", "internlm3"])
def test_packed_samples_give_loss_and_gradient_of_each_alone(family: str) -> None:
    samples = _samples([7, 3, 12, 5])
    model = _model(family)

    def run(groups: list[list[Sample]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for group in groups:
            logits, targets = target_logits(model, collate_padding_free(group))
            total = total + torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        total.backward()
        return total.detach(), [each.grad.clone() for each in model.parameters() if each.grad is not None]

    packed, packed_gradient = run([samples])
    alone, alone_gradient = run([[each] for each in samples])
    torch.testing.assert_close(packed, alone, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(packed_gradient, alone_gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_other_attention_keeps_packed_samples_apart_too(attention: str) -> None:
    samples = _samples([6, 9, 4])
    logits, _ = target_logits(_model("llama", attention), collate_padding_free(samples))
    expected, _ = target_logits(_model("llama", ATTN_IMPLEMENTATION), collate_padding_free(samples))
    # eager attention takes its softmax in fp32, whatever the type of the rest
    assert_close_sums(logits, expected, TINY_MODEL_FP32)


def test_flat_and_padded_layouts_give_the_same_targets() -> None:
    samples = _samples([6, 9, 4])
    model = _model("qwen3")
    flat, flat_targets = target_logits(model, collate_padding_free(samples))
    padded, padded_targets = target_logits(model, collate_padded(samples, pad_token_id=0))
    assert torch.equal(flat_targets, padded_targets)
    torch.testing.assert_close(flat, padded, rtol=1e-9, atol=1e-9)


def test_a_changed_neighbour_changes_nothing() -> None:
    first, second = _samples([8, 8])
    model = _model("llama")
    before, _ = target_logits(model, collate_padding_free([first, second]))
    other = Sample((second.input_ids + 1).astype(np.int32), second.labels)
    after, _ = target_logits(model, collate_padding_free([first, other]))
    assert torch.equal(before[: first.num_targets], after[: first.num_targets])
    assert not torch.allclose(before[first.num_targets :], after[first.num_targets :])


def test_a_sliding_window_is_kept_within_a_segment() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 10, 4, dtype=torch.float64) for _ in range(3))
    got, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, sliding_window=3, seq_lens=[7, 3]
    )
    position = torch.arange(10)
    segment = torch.tensor([0] * 7 + [1] * 3)
    back = position[:, None] - position[None, :]
    allowed = (back >= 0) & (back < 3) & (segment[:, None] == segment[None, :])
    scores = (query @ key.transpose(-1, -2) / 2.0).masked_fill(~allowed, -torch.inf)
    expected = (scores.softmax(-1) @ value).transpose(1, 2)
    torch.testing.assert_close(got, expected)


def test_lengths_that_do_not_add_up_are_refused() -> None:
    tensor = torch.randn(1, 2, 5, 4)
    with pytest.raises(ValueError, match="segments of 4 tokens in a batch of 5"):
        packed_attention(torch.nn.Identity(), tensor, tensor, tensor, None, seq_lens=[1, 3])


def test_attention_that_never_hears_of_segments_fails_instead_of_leaking() -> None:
    tensor = torch.randn(1, 2, 5, 4)
    module = SimpleNamespace(num_key_value_groups=1, is_causal=True)
    with pytest.raises(RuntimeError):
        packed_attention(module, tensor, tensor, tensor, unused_mask(torch.device("cpu")))  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("training", [True, False])
def test_kernels_give_the_attention_of_torch_in_bf16(window: int | None, training: bool) -> None:
    """Both against fp64, to what rounding to bf16 costs: 8 bits, a few times over."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 300, 16, generator=generator)
    key, value = torch.randn(2, 1, 2, 300, 16, generator=generator)
    lengths = [170, 1, 129]
    module = torch.nn.Identity().train(training)

    def run(dtype: torch.dtype, kernels: bool) -> torch.Tensor:
        inputs = [each.to(dtype) for each in (query, key, value)]
        return packed_attention(
            module, *inputs, None, sliding_window=window, seq_lens=lengths, kernels=kernels
        )[0].double()

    exact = run(torch.float64, False)
    ours, torchs = (float((run(torch.bfloat16, each) - exact).norm()) for each in (True, False))
    assert ours != torchs
    assert ours < 1.5 * torchs < 0.02 * float(exact.norm())


@pytest.mark.parametrize(
    ("device", "dtype", "width", "capability", "wanted"),
    [
        ("cuda", torch.bfloat16, 128, (9, 0), True),
        ("cuda", torch.bfloat16, 128, (7, 5), False),
        ("cuda", torch.float32, 128, (9, 0), False),
        ("cuda", torch.float16, 100, (9, 0), False),
        ("cuda", torch.bfloat16, 512, (9, 0), False),
        ("cpu", torch.bfloat16, 128, (9, 0), False),
    ],
)
def test_attention_over_lengths_is_chosen_where_torch_has_it(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    dtype: torch.dtype,
    width: int,
    capability: tuple[int, int],
    wanted: bool,
) -> None:
    """By what a tensor says of itself: there is no GPU in these tests."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    tensor: Any = SimpleNamespace(device=torch.device(device), dtype=dtype, shape=(1, 2, 5, width))
    assert _has_varlen(tensor) == (wanted and _varlen_attn() is not None)


def test_this_torch_has_attention_over_lengths() -> None:
    """So that the test above can say yes."""
    assert _varlen_attn() is not None


def test_split_chunks_restarts_with_each_sample() -> None:
    assert split_chunks([9, 4, 1], 4) == [4, 4, 1, 4, 1]
