"""Modules that are computed sample by sample."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, PretrainedConfig, Qwen2VLTextConfig, Qwen3VLTextConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from xft.models.attention import unused_mask
from xft.models.segments import (
    SegmentedClass,
    has_length_dependent_rope,
    run_batched,
    run_each,
    segment_modules,
    separate_rotary_embeddings,
)

LENGTHS = [3, 70, 1, 65]


class Mixer(nn.Module):
    """A running sum of tokens times positions; ``calls`` holds the shapes it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def forward(self, hidden_states: Tensor, scale: tuple[Tensor, float], **kwargs: Any) -> Any:
        self.calls.append((tuple(hidden_states.shape), kwargs))
        return (hidden_states * scale[0] * scale[1]).cumsum(1), None


def _inputs() -> tuple[Tensor, tuple[Tensor, float]]:
    states = torch.randn(1, sum(LENGTHS), 2, dtype=torch.float64, requires_grad=True)
    return states, (torch.randn(1, sum(LENGTHS), 1, dtype=torch.float64), 2.0)


@pytest.mark.parametrize("batched", [False, True])
def test_each_sample_gets_output_and_gradient_of_its_own(batched: bool) -> None:
    states, scale = _inputs()
    model = nn.Sequential(Mixer())
    segment_modules(model, [SegmentedClass("Mixer", batched)])
    options = {"attention_mask": unused_mask(states.device), "kernels": True}
    output, other = model[0](states, scale=scale, seq_lens=LENGTHS, **options)
    begins = torch.tensor([0, *LENGTHS]).cumsum(0).tolist()
    parts = [
        (states[:, begin : begin + n], scale[0][:, begin : begin + n])
        for begin, n in zip(begins, LENGTHS, strict=False)
    ]
    expected = torch.cat([Mixer()(state, (factor, 2.0))[0] for state, factor in parts], dim=1)
    assert other is None
    torch.testing.assert_close(output, expected)
    weights = torch.randn_like(output)
    gradients = [torch.autograd.grad((result * weights).sum(), states)[0] for result in (output, expected)]
    torch.testing.assert_close(*gradients)


def test_run_each_passes_the_length_and_no_mask() -> None:
    states, scale = _inputs()
    mixer = Mixer()
    run_each(mixer, LENGTHS, (states,), {"scale": scale, "attention_mask": torch.ones(1, 1, 9, 9)})
    assert mixer.calls == [
        ((1, length, 2), {"attention_mask": None, "seq_lens": [length]}) for length in LENGTHS
    ]


def test_run_batched_computes_samples_of_about_equal_length_together() -> None:
    states, scale = _inputs()
    mixer = Mixer()
    run_batched(mixer, LENGTHS, (states,), {"scale": scale, "kernels": True})
    assert mixer.calls == [((2, 3, 2), {}), ((2, 70, 2), {})]


@pytest.mark.parametrize("run", [run_each, run_batched])
def test_positions_of_three_dimensions_are_split_by_samples(run: Callable[..., Any]) -> None:
    positions = torch.arange(3 * sum(LENGTHS)).view(3, 1, -1)
    rows = run(lambda part, **_: part.permute(1, 2, 0), LENGTHS, (positions,), {})
    assert torch.equal(rows, positions.permute(1, 2, 0))


def test_row_without_lengths_is_computed_as_before() -> None:
    states, scale = _inputs()
    model = nn.Sequential(Mixer())
    segment_modules(model, [SegmentedClass("Mixer", batched=True)])
    segmented = type(model[0])
    segment_modules(model, [SegmentedClass("Mixer", batched=True)])
    assert type(model[0]) is segmented
    assert segmented.__name__ == "Mixer"
    assert torch.equal(model[0](states, scale)[0], Mixer()(states, scale)[0])


def test_part_of_a_sequence_parallel_row_is_refused() -> None:
    states, scale = _inputs()
    with pytest.raises(ValueError, match="ranks"):
        run_each(Mixer(), LENGTHS, (states,), {"scale": scale, "sequence": object()})


@pytest.mark.parametrize("lengths", [[6, 20, 3], [20], [3, 12, 12], [20, 6]])
def test_dynamic_rotary_embedding_is_that_of_a_new_module_for_each_sample(lengths: list[int]) -> None:
    """Also after longer samples, and with padding at the end of the row."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    config = LlamaConfig(
        hidden_size=32, num_attention_heads=2, max_position_embeddings=8, rope_parameters=rope
    )
    states = torch.zeros(1, 1, 32)
    positions = [torch.arange(length)[None] for length in lengths]
    expected = [LlamaRotaryEmbedding(config)(states, ids) for ids in positions]
    model = nn.Sequential(LlamaRotaryEmbedding(config))
    assert has_length_dependent_rope(model)
    separate_rotary_embeddings(model)
    for _ in range(2):
        row = torch.cat([*positions, torch.zeros(1, 5, dtype=torch.long)], dim=1)
        for part, result in zip(zip(*expected, strict=True), model[0](states, row), strict=True):
            torch.testing.assert_close(result[:, : sum(lengths)], torch.cat(part, dim=1), rtol=0, atol=0)


@pytest.mark.parametrize("config_class", [Qwen2VLTextConfig, Qwen3VLTextConfig])
@pytest.mark.parametrize("rows", [1, 2])
def test_dynamic_rotary_embedding_of_three_positions_is_that_of_each_sample(
    config_class: type[PretrainedConfig], rows: int
) -> None:
    """M-RoPE: an image of three rows and two columns, before a text in one sample and after it in another."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    config = config_class(
        hidden_size=32, num_attention_heads=2, head_dim=16, max_position_embeddings=8, rope_parameters=rope
    )
    rotary_class = {
        Qwen2VLTextConfig: Qwen2VLRotaryEmbedding,
        Qwen3VLTextConfig: Qwen3VLTextRotaryEmbedding,
    }[config_class]
    image = torch.tensor([[0] * 6, [0, 0, 1, 1, 2, 2], [0, 1] * 3])
    text = torch.arange(12).expand(3, 12)
    samples = [torch.cat([image, text + 3], dim=1), torch.cat([text, image + 12], dim=1), text[:, :4]]
    states = torch.zeros(rows, 1, 32)
    expected = [rotary_class(config)(states, sample[:, None].expand(-1, rows, -1)) for sample in samples]
    model = nn.Sequential(rotary_class(config))
    assert has_length_dependent_rope(model)
    separate_rotary_embeddings(model)
    row = torch.cat(samples, dim=1)[:, None].expand(-1, rows, -1)
    for part, result in zip(zip(*expected, strict=True), model[0](states, row), strict=True):
        torch.testing.assert_close(result, torch.cat(part, dim=-2), rtol=0, atol=0)


def test_rotary_embedding_with_fixed_frequencies_stays_as_it_is() -> None:
    model = nn.Sequential(LlamaRotaryEmbedding(LlamaConfig(hidden_size=32, num_attention_heads=2)))
    separate_rotary_embeddings(model)
    assert type(model[0]) is LlamaRotaryEmbedding
    assert not has_length_dependent_rope(model)
