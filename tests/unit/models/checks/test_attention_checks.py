"""The measurement tells exact attention from wrong, and isolated samples from leaks: also on models broken on purpose."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    BambaConfig,
    BertConfig,
    BloomConfig,
    DeepseekV3Config,
    DeepseekV32Config,
    Gemma2Config,
    GptOssConfig,
    GraniteSWAConfig,
    JambaConfig,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    PretrainedConfig,
    Qwen3NextConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from xft.errors import ModelError
from xft.models.attention import ATTN_IMPLEMENTATION, packed_attention
from xft.models.checks import measure
from xft.models.checks.attention_checks import _check, check_attention, choose_attention
from xft.models.segments import SegmentedClass


@pytest.mark.parametrize(
    "config",
    [LlamaConfig(), GptOssConfig(), GraniteSWAConfig(), Gemma2Config(), DeepseekV3Config()],
    ids=["dense", "sinks-and-windows", "sinks", "softcap", "narrow-values"],
)
def test_packed_attention_is_exact_and_isolates(config: PretrainedConfig) -> None:
    check = check_attention(config, ATTN_IMPLEMENTATION)
    assert check.isolates, check
    assert choose_attention(config) == ATTN_IMPLEMENTATION


LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0 + 0.01 * index for index in range(48)],
    "long_factor": [1.0 + index for index in range(48)],
    "original_max_position_embeddings": 4096,
}


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}),
        Phi3Config(
            original_max_position_embeddings=4096, max_position_embeddings=8192, rope_parameters=LONG
        ),
    ],
    ids=["dynamic", "longrope"],
)
def test_rotary_embedding_that_depends_on_the_length_is_that_of_each_sample(
    config: PretrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = measure.measure(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config, ATTN_IMPLEMENTATION)
    assert check.isolates
    assert check.pads_left
    assert not check.pads  # padding on the right does not show how long a row is
    monkeypatch.setattr(measure, "separate_rotary_embeddings", lambda model: None)
    check = measure.measure(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config, ATTN_IMPLEMENTATION)
    assert check.packed_error > 0.01


def test_eager_attention_of_gpt_oss_leaks_between_packed_samples() -> None:
    check = check_attention(GptOssConfig(), "eager")
    assert check.exact
    assert not check.isolates


def test_positions_from_the_beginning_of_the_row_are_computed_by_samples() -> None:
    """Llama 4 scales queries by the place in the row: without that, its chunks alone are isolated."""
    check = check_attention(Llama4TextConfig(), ATTN_IMPLEMENTATION)
    assert check.isolates
    assert check.segmented == (SegmentedClass("Llama4TextAttention", batched=False),)
    assert not check_attention(Llama4TextConfig(), "sdpa").isolates
    plain = check_attention(Llama4TextConfig(attn_temperature_tuning=False), ATTN_IMPLEMENTATION)
    assert (plain.isolates, plain.segmented) == (True, ())


@pytest.mark.parametrize(
    ("config", "segmented"),
    [
        (Qwen3NextConfig(), [SegmentedClass("Qwen3NextGatedDeltaNet", batched=True)]),
        (BambaConfig(attn_layer_indices=[9, 18]), [SegmentedClass("BambaMixer", batched=True)]),
        (JambaConfig(), [SegmentedClass("JambaMambaDecoderLayer", batched=False)]),
    ],
    ids=["linear-attention", "state-space", "whole-layer"],
)
def test_layers_with_a_state_are_computed_by_samples(
    config: PretrainedConfig, segmented: list[SegmentedClass]
) -> None:
    check = check_attention(config, ATTN_IMPLEMENTATION)
    assert check.isolates
    assert list(check.segmented) == segmented


def test_alibi_is_padded_in_eager_attention() -> None:
    config = BloomConfig(n_layer=4, hidden_size=64, n_head=4)
    assert choose_attention(config) == "eager"
    check = check_attention(config, "eager")
    assert (check.isolates, check.pads) == (False, True)


def test_sparse_indexer_is_an_argument_that_packed_attention_refuses() -> None:
    config = DeepseekV32Config(num_hidden_layers=4)
    check = check_attention(config, ATTN_IMPLEMENTATION)
    assert not check.exact
    assert "indices" in check.problem
    assert choose_attention(config) == "sdpa"
    assert check_attention(config, "sdpa").isolates


def test_bidirectional_model_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        choose_attention(BertConfig())
    assert (caught.value.key, caught.value.got) == ("model.path", "bert")


def test_class_outside_of_transformers_is_not_measured() -> None:
    class OtherConfig(PretrainedConfig):
        model_type = "other"

    assert check_attention(OtherConfig(), ATTN_IMPLEMENTATION).problem
    assert choose_attention(OtherConfig()) == "sdpa"


def test_measurement_is_cached_by_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    def build(model_class: Any, config: PretrainedConfig, attention: str) -> Any:
        calls.append(attention)
        raise ValueError("not built")

    monkeypatch.setenv("XFT_CACHE", str(tmp_path))
    monkeypatch.setattr(measure, "build_tiny_model", build)
    for width in (333, 333, 444):
        check_attention(LlamaConfig(intermediate_size=width), "eager")
    assert calls == ["eager", "eager"]
    _check.cache_clear()  # As in another process.
    check_attention(LlamaConfig(intermediate_size=333), "eager")
    assert calls == ["eager", "eager"]


class _Broken(LlamaForCausalLM):
    """Base of the broken models: each has its own ``model_type``."""


class _Convolution(nn.Module):
    """A norm after which each token also holds its predecessor, of whatever sample."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, states: Tensor) -> Tensor:
        states = self.norm(states)
        return states + states.roll(1, dims=1) * (torch.arange(states.shape[1]) > 0)[:, None]


class _Convolved(_Broken):
    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.model.norm = _Convolution(self.model.norm)


class _Shifted(_Broken):
    """Logits of a batch depend on the mean of all its tokens."""

    def forward(self, *arguments: Any, **options: Any) -> Any:
        output = super().forward(*arguments, **options)
        output.logits = output.logits + 0.01 * output.logits.cumsum(1)
        return output


class _Bidirectional(_Broken):
    def forward(self, *arguments: Any, **options: Any) -> Any:
        output = super().forward(*arguments, **options)
        output.logits = output.logits + output.logits.flip(1)
        return output


class _MaskIgnoring(_Broken):
    """Padding is a token like others, whose mean is added: wrong if padded on either side."""

    def forward(self, *arguments: Any, **options: Any) -> Any:
        mask = options.get("attention_mask")
        if mask is not None and mask.ndim == 2:
            options["attention_mask"] = None
        output = super().forward(*arguments, **options)
        if mask is not None and mask.ndim == 2:
            output.logits = output.logits * (2 - mask.double().mean(dim=1)[:, None, None])
        return output


class _PositionsIgnoring(_Broken):
    def forward(self, *arguments: Any, **options: Any) -> Any:
        return super().forward(*arguments, **{**options, "position_ids": None})


class _Failing(_Broken):
    def forward(self, *arguments: Any, **options: Any) -> Any:
        raise RuntimeError("no forward pass")


class _NotFinite(_Broken):
    def forward(self, *arguments: Any, **options: Any) -> Any:
        output = super().forward(*arguments, **options)
        output.logits = output.logits / 0.0
        return output


@pytest.fixture(scope="module")
def broken() -> dict[str, PretrainedConfig]:
    configs = {}
    for model_class in _Broken.__subclasses__():
        name = model_class.__name__
        config_class = type(f"{name}Config", (LlamaConfig,), {"model_type": f"broken{name.lower()}"})
        model_class.config_class = config_class
        AutoModelForCausalLM.register(config_class, model_class)
        configs[name] = config_class()
    return configs


@pytest.mark.parametrize("name", ["_Convolved", "_Shifted"])
def test_layer_that_mixes_neighbors_is_exact_alone_and_leaks_packed(
    broken: dict[str, PretrainedConfig], name: str
) -> None:
    check = check_attention(broken[name], ATTN_IMPLEMENTATION)
    assert check.exact
    assert not check.isolates


def test_padding_that_reaches_the_logits_is_measured(broken: dict[str, PretrainedConfig]) -> None:
    check = check_attention(broken["_MaskIgnoring"], ATTN_IMPLEMENTATION)
    assert check.exact
    assert not check.pads
    assert not check.pads_left


def test_positions_that_a_model_ignores_leak(broken: dict[str, PretrainedConfig]) -> None:
    """Rotary positions are relative: alone, and padded on the right, nothing differs."""
    check = check_attention(broken["_PositionsIgnoring"], ATTN_IMPLEMENTATION)
    assert check.pads
    assert check.isolates  # Only distances count, and packed attention keeps samples apart.
    assert not check_attention(broken["_PositionsIgnoring"], "sdpa").isolates


def test_logits_that_depend_on_later_tokens_are_refused(broken: dict[str, PretrainedConfig]) -> None:
    with pytest.raises(ModelError):
        choose_attention(broken["_Bidirectional"])


@pytest.mark.parametrize("name", ["_Failing", "_NotFinite"])
def test_model_without_logits_is_a_problem_and_not_packed(
    broken: dict[str, PretrainedConfig], name: str
) -> None:
    check = check_attention(broken[name], ATTN_IMPLEMENTATION)
    assert check.problem
    assert not check.isolates


@pytest.fixture
def deaf_attention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Replace packed attention by SDPA, which knows neither segments nor sinks."""

    def deaf(*arguments: Any, seq_lens: Any = None, kernels: bool = False, **options: Any) -> Any:
        arguments = (*arguments[:4], None) if seq_lens is not None else arguments
        return sdpa_attention_forward(*arguments, is_causal=True if seq_lens else None, **options)

    monkeypatch.setenv("XFT_CACHE", str(tmp_path))
    _check.cache_clear()
    AttentionInterface.register(ATTN_IMPLEMENTATION, deaf)
    yield
    AttentionInterface.register(ATTN_IMPLEMENTATION, packed_attention)
    _check.cache_clear()


@pytest.mark.usefixtures("deaf_attention")
def test_attention_that_ignores_segments_is_computed_by_samples() -> None:
    check = check_attention(LlamaConfig(), ATTN_IMPLEMENTATION)
    assert check.exact
    assert [segmented.name for segmented in check.segmented] == ["LlamaAttention"]
    assert check.isolates


@pytest.mark.usefixtures("deaf_attention")
def test_requested_attention_that_drops_sinks_is_refused() -> None:
    assert not check_attention(GptOssConfig(), ATTN_IMPLEMENTATION).exact
    with pytest.raises(ModelError) as caught:
        choose_attention(GptOssConfig(), ATTN_IMPLEMENTATION)
    assert (caught.value.key, caught.value.got) == ("model.attn_implementation", ATTN_IMPLEMENTATION)
