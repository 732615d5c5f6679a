"""Model families: what a config or a module says about itself."""

from typing import Any

import pytest
from transformers import AutoConfig, GPT2Config, LlamaConfig, PretrainedConfig

from xft.models.families import (
    FAMILIES,
    ModelFamily,
    context_length,
    family_of,
    optional_field,
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
