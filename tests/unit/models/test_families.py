"""Model families: what a config or a module says about itself."""

from typing import Any

import pytest
from torch import nn
from transformers import AutoConfig, GPT2Config, LlamaConfig, PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from xft.models.families import (
    FAMILIES,
    ModelFamily,
    context_length,
    family_of,
    optional_field,
    rms_norm_eps,
)


def test_optional_field_that_the_architecture_lacks_is_none() -> None:
    assert optional_field(LlamaConfig(head_dim=16), "head_dim") == 16
    assert optional_field(GPT2Config(), "sliding_window") is None


def test_context_length_of_a_config_without_positions_is_none() -> None:
    assert context_length(LlamaConfig(max_position_embeddings=64)) == 64
    assert context_length(PretrainedConfig()) is None


@pytest.mark.parametrize(
    ("model_type", "options", "expected"),
    [
        ("llama", {}, FAMILIES["llama"]),
        ("gemma2", {}, ModelFamily()),
        ("gemma3n_text", {}, ModelFamily(accepts_embeddings=False)),
        ("gemma3n", {}, ModelFamily(accepts_embeddings=False)),
    ],
)
def test_family_of_reads_table_and_text_config(
    model_type: str, options: dict[str, Any], expected: ModelFamily
) -> None:
    assert family_of(AutoConfig.for_model(model_type, **options)) == expected


def test_rms_norm_eps_is_that_of_modules_named_rms_norm() -> None:
    assert rms_norm_eps(LlamaRMSNorm(4, eps=1e-5)) == 1e-5
    assert rms_norm_eps(nn.RMSNorm(4, eps=1e-3)) == 1e-3
    assert rms_norm_eps(nn.LayerNorm(4)) is None
