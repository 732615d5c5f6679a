"""Adapters with broken weights are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny
from safetensors.torch import load_file, save_file

from xft.errors import ModelError
from xft.models import LoRA, load_saved_model


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_adapter_that_is_not_finite_is_refused(tmp_path: Path, byte_tokenizer: Any, value: float) -> None:
    base = save_tiny(tmp_path / "base", "llama", byte_tokenizer)
    folder = tmp_path / "adapter"
    load_model(base, LoRA(r=2)).save_pretrained(folder)
    load_saved_model(str(folder))
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[3]
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError) as error:
        load_saved_model(str(folder))
    assert error.value.key == str(folder)
    assert name in str(error.value.got)
