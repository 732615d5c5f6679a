from typing import Any

import pytest
from transformers import AutoConfig

from xft.models.families import ModelFamily, family_of


@pytest.mark.parametrize(
    ("model_type", "options", "expected"),
    [
        ("llama", {}, ModelFamily()),
        ("gpt_oss", {}, ModelFamily(attn_implementation="eager")),
        ("gemma2", {}, ModelFamily(attn_implementation="eager")),
        ("gemma2", {"attn_logit_softcapping": None}, ModelFamily()),
        ("gemma3n_text", {}, ModelFamily(accepts_embeddings=False)),
        ("gemma3n", {}, ModelFamily(accepts_embeddings=False)),
    ],
)
def test_family_of_reads_table_and_text_config(
    model_type: str, options: dict[str, Any], expected: ModelFamily
) -> None:
    assert family_of(AutoConfig.for_model(model_type, **options)) == expected
