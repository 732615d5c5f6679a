"""Outputs of the live model are computed without a copy of all of its parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.models import trained_adapter
from helpers.tiny import save_tiny
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from xft.export.verify.reference import reference_outputs


@pytest.mark.parametrize("adapted", [True, False])
def test_adapter_alone_is_gathered(adapted: bool, tmp_path: Path, byte_tokenizer: Any) -> None:
    base = save_tiny(tmp_path, "llama", byte_tokenizer)
    gathered: list[nn.Parameter] = []

    @contextmanager
    def summon(parameters: list[nn.Parameter]) -> Iterator[list[Tensor]]:
        gathered.extend(parameters)
        yield [parameter.data for parameter in parameters]

    model: Any = trained_adapter(base) if adapted else AutoModelForCausalLM.from_pretrained(base)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    outputs = reference_outputs(model, tokenizer, None, summon)
    names = {name for name, param in model.named_parameters() for other in gathered if param is other}
    assert bool(names) is adapted
    assert all("lora_" in name for name in names)
    assert bool(outputs.adapter_norms) is adapted
