"""A second, frozen model: loaded without gradients, and only with the tokens of the trained one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import save_tiny

from xft.errors import ConfigError
from xft.models.frozen_model import load_frozen_model
from xft.models.saved_model import load_saved_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", "llama", byte_tokenizer)


def test_it_has_the_dtype_of_the_trained_model_and_no_gradients(folder: Path) -> None:
    policy = load_saved_model(str(folder), dtype="bfloat16")
    model = load_frozen_model(str(folder), "objective.teacher", policy, CPU)
    assert {param.dtype for param in model.parameters()} == {torch.bfloat16}
    assert not any(param.requires_grad for param in model.parameters())
    assert not model.training


def test_it_may_be_quantized(folder: Path) -> None:
    policy = load_saved_model(str(folder))
    model = load_frozen_model(str(folder), "objective.teacher", policy, CPU, bits=4)
    assert any(type(module).__name__ == "Linear4bit" for module in model.modules())


def test_other_tokens_are_refused(folder: Path) -> None:
    policy = load_saved_model(str(folder))
    tokenizer: Any = policy.tokenizer
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(ConfigError) as error:
        load_frozen_model(str(folder), "objective.teacher", policy, CPU)
    assert (error.value.key, error.value.got) == ("objective.teacher", str(folder))
    assert f"{len(tokenizer):,}" in error.value.expected
