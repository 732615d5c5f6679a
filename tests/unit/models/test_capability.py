"""The measurement tells exact attention from wrong, and isolated samples from leaks: also on models broken on purpose."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    BertConfig,
    DeepseekV3Config,
    DeepseekV32Config,
    Gemma2Config,
    GptOssConfig,
    GraniteSWAConfig,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    PretrainedConfig,
    Qwen3NextConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from xft.errors import ModelError
from xft.models import capability
from xft.models.attention import ATTN_IMPLEMENTATION, packed_attention
from xft.models.capability import check_attention, choose_attention


@pytest.mark.parametrize(
    "config",
    [LlamaConfig(), GptOssConfig(), GraniteSWAConfig(), Gemma2Config(), DeepseekV3Config()],
    ids=["dense", "sinks-and-windows", "sinks", "softcap", "narrow-values"],
)
def test_packed_attention_is_exact_and_isolates(config: PretrainedConfig) -> None:
    check = check_attention(config, ATTN_IMPLEMENTATION)
    assert check.isolates, check
    assert choose_attention(config) == ATTN_IMPLEMENTATION


def test_eager_attention_of_gpt_oss_leaks_between_packed_samples() -> None:
    check = check_attention(GptOssConfig(), "eager")
    assert check.exact
    assert not check.isolates


def test_chunked_attention_is_packed_by_sdpa() -> None:
    """Chunks are part of the mask alone, which packed attention does not read."""
    assert not check_attention(Llama4TextConfig(), ATTN_IMPLEMENTATION).isolates
    assert choose_attention(Llama4TextConfig()) == "sdpa"


@pytest.mark.parametrize("config", [Qwen3NextConfig(), MambaConfig()], ids=["hybrid", "state-space"])
def test_recurrent_layers_leak_whatever_the_attention(config: PretrainedConfig) -> None:
    assert not check_attention(config, choose_attention(config)).isolates


def test_sparse_indexer_is_an_argument_that_packed_attention_refuses() -> None:
    check = check_attention(DeepseekV32Config(), ATTN_IMPLEMENTATION)
    assert not check.exact
    assert "indices" in check.problem
    assert choose_attention(DeepseekV32Config()) == "sdpa"


def test_bidirectional_model_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        choose_attention(BertConfig())
    assert (caught.value.key, caught.value.got) == ("model.path", "bert")


def test_class_outside_of_transformers_is_not_measured() -> None:
    class OtherConfig(PretrainedConfig):
        model_type = "other"

    assert check_attention(OtherConfig(), ATTN_IMPLEMENTATION).problem
    assert choose_attention(OtherConfig()) == "sdpa"


def test_measurement_is_cached_by_config(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def build(model_class: Any, config: PretrainedConfig, attention: str) -> Any:
        calls.append(attention)
        raise ValueError("not built")

    monkeypatch.setattr(capability, "build_tiny_model", build)
    for width in (333, 333, 444):
        check_attention(LlamaConfig(intermediate_size=width), "eager")
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
    for model_class in (_Convolved, _Shifted, _Bidirectional, _Failing, _NotFinite):
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
def deaf_attention() -> Iterator[None]:
    """Replace packed attention by SDPA, which knows neither segments nor sinks."""

    def deaf(*arguments: Any, seq_lens: Any = None, kernels: bool = False, **options: Any) -> Any:
        arguments = (*arguments[:4], None) if seq_lens is not None else arguments
        return sdpa_attention_forward(*arguments, is_causal=True if seq_lens else None, **options)

    capability._check.cache_clear()
    AttentionInterface.register(ATTN_IMPLEMENTATION, deaf)
    yield
    AttentionInterface.register(ATTN_IMPLEMENTATION, packed_attention)
    capability._check.cache_clear()


@pytest.mark.usefixtures("deaf_attention")
def test_attention_that_ignores_segments_is_not_used_for_packing() -> None:
    check = check_attention(LlamaConfig(), ATTN_IMPLEMENTATION)
    assert check.exact
    assert not check.isolates
    assert choose_attention(LlamaConfig()) == "sdpa"


@pytest.mark.usefixtures("deaf_attention")
def test_requested_attention_that_drops_sinks_is_refused() -> None:
    assert not check_attention(GptOssConfig(), ATTN_IMPLEMENTATION).exact
    with pytest.raises(ModelError) as caught:
        choose_attention(GptOssConfig(), ATTN_IMPLEMENTATION)
    assert (caught.value.key, caught.value.got) == ("model.attn_implementation", ATTN_IMPLEMENTATION)
