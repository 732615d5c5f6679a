"""What is known of a model before it is loaded."""

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import save_tiny

from xft.errors import ModelError
from xft.run_config.recipe import model_facts
from xft.run_config.recipe.method import read_method
from xft.run_config.recipe.model_facts import ModelFacts, inspect_model


@pytest.mark.parametrize("name", ["qwen3_8b", "Qwen/Qwen3-8B"])
def test_a_shipped_model_is_known_by_its_name_and_by_that_of_the_hub(name: str) -> None:
    facts = inspect_model(name)
    assert facts.name == "qwen3_8b"
    assert facts.section["path"] == "Qwen/Qwen3-8B"
    assert facts.section["gradient_checkpointing"] is True
    assert facts.num_parameters == pytest.approx(8.19e9, rel=0.01)
    sizes = [facts.state_bytes(read_method(method)) or 0 for method in ("qlora", "lora", "full")]
    assert 0 < sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("owner/Tiny-135M-Instruct", 135e6),
        ("owner/big-0.5b", 0.5e9),
        ("owner/Qwen9-30B-A3B", 30e9),
        ("owner/other", None),
    ],
)
def test_the_name_of_an_unknown_model_may_tell_its_size(name: str, count: float | None) -> None:
    facts = inspect_model(name)
    assert facts.section == {"type": "causal_lm", "path": name}
    assert facts.num_parameters == count
    assert facts.state_bytes(read_method("full")) == (None if count is None else 16 * count)


def test_a_folder_has_a_config(tmp_path: Path, byte_tokenizer: Any) -> None:
    folder = save_tiny(tmp_path / "My Model", "llama", byte_tokenizer)
    facts = inspect_model(str(folder))
    assert facts.name == "my_model"
    assert facts.config is not None
    assert facts.max_positions == facts.config.max_position_embeddings


def test_no_such_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        inspect_model(str(tmp_path / "absent"))
    assert caught.value.key == "model.path"


def test_facts_without_a_config_know_no_positions() -> None:
    assert ModelFacts("a", {}, "auto", "owner/a").max_positions is None


def test_code_of_a_model_neither_runs_nor_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*prompt: object) -> str:
        raise AssertionError(prompt)

    monkeypatch.setattr(builtins, "input", answer)
    folder, ran = tmp_path / "remote", tmp_path / "ran"
    folder.mkdir()
    config = {"model_type": "nobody_knows", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    code = (
        f"import pathlib\nfrom transformers import PretrainedConfig\npathlib.Path({str(ran)!r}).touch()\n"
    )
    (folder / "code.py").write_text(code + "class Config(PretrainedConfig):\n    pass\n")
    assert model_facts._local_config(str(folder)) is None
    assert not ran.exists()


def test_a_model_file_without_a_path_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("model = dict()\n")
    monkeypatch.setattr(model_facts, "preset_models", lambda: {"mine": tmp_path / "mine.py"})
    assert inspect_model("owner/other").section["path"] == "owner/other"


def test_the_adapter_that_training_continues_from_keeps_its_values() -> None:
    saved = {"r": 4, "lora_alpha": 8, "use_dora": True}
    facts = ModelFacts("a", {}, "auto", "owner/a", adapter=saved)
    section = facts.adapter_section(read_method("qlora"))
    assert section == {"type": "lora", **saved, "lora_dropout": 0.0}
    assert facts.adapter_section(read_method("full")) is None
