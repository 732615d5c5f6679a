"""A merged model is the adapter on its base, tied weights included."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from xft.errors import ConfigError
from xft.models import LoRA
from xft.models.adapters.merging import check_mergeable, merge


def _logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 45)[None]).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("targets", "saved", "tied"),
    [
        (["q_proj"], [], True),
        (["q_proj", "lm_head"], [], False),
        (["q_proj", "embed_tokens"], [], False),
        (["lm_head", "embed_tokens"], [], False),
        (["q_proj"], ["lm_head"], False),
        (["q_proj"], ["embed_tokens"], False),
        (["lm_head"], ["embed_tokens"], False),
    ],
)
def test_adapter_on_tied_weights_is_merged(
    base: Path, tmp_path: Path, targets: list[str], saved: list[str], tied: bool
) -> None:
    model = load_model(base, LoRA(r=2, target_modules=targets, modules_to_save=saved or None))
    torch.manual_seed(1)
    for param in model.parameters():
        if param.requires_grad:
            param.data += torch.randn_like(param) * 0.1
    expected, untouched = _logits(model), _logits(AutoModelForCausalLM.from_pretrained(base))
    assert (expected - untouched).abs().max() > 0.05
    merged = merge(model)
    # fp32: W + B A is rounded once instead of W x + B A x
    torch.testing.assert_close(_logits(merged), expected, rtol=1e-4, atol=1e-5)
    assert merged.config.tie_word_embeddings is tied
    merged.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(_logits(again), expected, rtol=1e-4, atol=1e-5)


def test_adapter_on_packed_integers_is_not_merged(base: Path) -> None:
    """Layers of GPTQ and AWQ have ``qweight`` in place of ``weight``."""
    model = load_model(base, LoRA(r=2, target_modules=["q_proj"]))
    check_mergeable(model)
    model.get_base_model().model.layers[1].mlp.up_proj.qweight = torch.zeros(2, dtype=torch.int32)
    for refuse in (check_mergeable, merge):
        with pytest.raises(ConfigError) as error:
            refuse(model)
        assert error.value.key == "--merge"
        assert "layers.1.mlp.up_proj" in str(error.value.got)
