"""A folder from a stranger runs no code: neither what is pickled in it, nor what lies beside it."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import save_tiny
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from xft.checkpoint.resume_state import read_resume_state
from xft.errors import CheckpointError, ModelError, XftError
from xft.models import load_saved_model


class Malice:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "the_code_was_run"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("saved") / "model", "llama", byte_tokenizer)


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_the_pickle_of_these_tests_would_run(tmp_path: Path, marker: Path) -> None:
    pickle.loads(pickle.dumps(Malice(marker)))
    assert marker.exists()


def test_weights_that_are_a_pickle_are_refused(model: Path, marker: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"model.norm.weight": Malice(marker)}))
    with pytest.raises(XftError, match="cannot load"):
        load_saved_model(str(model))
    assert not marker.exists()


def test_weights_that_are_a_pickle_of_torch_are_refused(model: Path, marker: Path) -> None:
    import torch

    (model / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Malice(marker)}, model / "pytorch_model.bin")
    with pytest.raises(XftError, match="cannot load"):
        load_saved_model(str(model))
    assert not marker.exists()


def test_a_pickle_beside_good_weights_is_left_alone(model: Path, marker: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "training_state.pt"):
        (model / name).write_bytes(pickle.dumps(Malice(marker)))
    load_saved_model(str(model))
    assert not marker.exists()


def test_an_adapter_that_is_a_pickle_is_refused(model: Path, tmp_path: Path, marker: Path) -> None:
    import torch

    adapter = tmp_path / "adapter"
    base = AutoModelForCausalLM.from_pretrained(model)
    get_peft_model(base, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(str(adapter))
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"x": Malice(marker)}, adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        load_saved_model(str(adapter))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["training_state.pt", "training_state.json", "training_state.safetensors"])
def test_a_training_state_that_is_a_pickle_is_refused(model: Path, marker: Path, name: str) -> None:
    (model / name).write_bytes(pickle.dumps(Malice(marker)))
    with pytest.raises(CheckpointError):
        read_resume_state(model)
    assert not marker.exists()


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({marker!r}).touch()
class Config(LlamaConfig):
    model_type = {model_type!r}
class Model(LlamaForCausalLM):
    config_class = Config
"""


@pytest.mark.parametrize("model_type", ["llama", "strange"])
def test_code_beside_the_weights_is_not_run_unless_that_is_asked_for(
    model: Path, marker: Path, model_type: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A model that transformers knows is loaded with its own class; one that it does not know is refused."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    (model / "code.py").write_text(CODE.format(marker=str(marker), model_type=model_type))
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = model_type
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (model / "config.json").write_text(json.dumps(config))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    if model_type == "llama":
        assert type(load_saved_model(str(model)).model).__name__ == "LlamaForCausalLM"
    else:
        with pytest.raises(XftError, match="cannot load"):
            load_saved_model(str(model))
    assert not marker.exists()


def test_a_config_asks_for_code_only_by_name() -> None:
    from inspect import signature

    from xft.export import convert
    from xft.models import CausalLMConfig

    for each in (CausalLMConfig.__init__, load_saved_model, convert):
        assert signature(each).parameters["trust_remote_code"].default is False
