from pathlib import Path
from typing import Any

import pytest

from xft.errors import ConfigError
from xft.migration.draft import MISSING, Draft
from xft.migration.llama_factory import import_llama_factory

CONFIG: dict[str, Any] = {
    "model": "org/model",
    "peft_config": {"name": "lora", "r": 16, "lora_alpha": 32, "target_modules": "all", "odd": 1},
    "dist_config": {"name": "fsdp2"},
    "train_dataset": "data/mix.yaml",
    "cutoff_len": 256,
    "micro_batch_size": 3,
    "global_batch_size": 12,
}


def read(folder: Path, **changes: Any) -> Draft:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "mix.yaml").write_text("one:\n  path: data/one.json\n")
    draft = import_llama_factory(CONFIG | changes, folder / "c.yaml")
    assert draft.unexplained == []
    return draft


def test_version_1_reads_nested_sections_and_its_file_of_datasets(tmp_path: Path) -> None:
    draft = read(tmp_path)
    assert draft.get("data.path") == "data/one.json"
    assert draft.get("adapter") == {
        "type": "lora",
        "r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "target_modules": "all-linear",
    }
    assert draft.get("training.micro_batch_size") == 3
    assert draft.get("training.gradient_accumulation_steps") == 4
    assert draft.get("strategy.type") == "fsdp2"
    assert draft.get("optimizer.lr") == 1e-4


def test_entries_have_the_keys_of_the_file(tmp_path: Path) -> None:
    entries = {key: entry.kind for entry in read(tmp_path).entries for key in entry.keys}
    assert {"model", "peft_config.r", "dist_config.name", "global_batch_size"} <= entries.keys()
    assert entries["peft_config.odd"] == MISSING


def test_without_an_adapter_all_weights_are_trained(tmp_path: Path) -> None:
    draft = read(tmp_path, peft_config=None)
    assert draft.has("adapter")
    assert draft.get("adapter") is None


@pytest.mark.parametrize(
    ("dist", "strategy"),
    [
        ({"name": "deepspeed", "config_file": "z2.json"}, {"type": "deepspeed", "zero_stage": 2}),
        ({"name": "deepspeed"}, {"type": "deepspeed", "zero_stage": 3}),
        ({"cp_size": 2}, {"type": "ddp", "sequence_parallel_size": 2}),
    ],
)
def test_distribution_is_a_strategy(tmp_path: Path, dist: dict[str, Any], strategy: object) -> None:
    assert read(tmp_path, dist_config=dist).get("strategy") == strategy


def test_a_section_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, peft_config="lora")
    assert caught.value.key == "peft_config"
