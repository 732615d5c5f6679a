from typing import Any

import pytest

from xft.errors import ConfigError
from xft.migration.arguments import Arguments
from xft.migration.axolotl_data import import_datasets
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft


def read(method: str, *datasets: object, **options: Any) -> Draft:
    draft = Draft("axolotl", {"model": {"type": "causal_lm"}})
    key = "pretraining_dataset" if method == "pretrain" else "datasets"
    import_datasets(Arguments(draft, {key: list(datasets), **options}), method)
    draft.close(())
    assert draft.unexplained == []
    return draft


ROWS = {"path": "org/rows", "type": "alpaca"}


@pytest.mark.parametrize(
    ("dataset", "path", "value"),
    [
        (ROWS | {"name": "en", "split": "dev"}, "data.path", "org/rows:en"),
        (ROWS | {"name": "en", "split": "dev"}, "data.split", "dev"),
        (ROWS | {"path": "json", "data_files": "a.jsonl", "split": "dev"}, "data.path", "a.jsonl"),
        (ROWS | {"path": "json", "data_files": "a.jsonl", "split": "dev"}, "data.split", None),
        (
            ROWS | {"path": "json", "data_files": ["a.jsonl", "b.jsonl"]},
            "data.path",
            ["a.jsonl", "b.jsonl"],
        ),
        (ROWS | {"chat_template": "qwen3"}, "data.template", "qwen3"),
        ("org/rows", "data.path", "org/rows"),
    ],
)
def test_a_dataset_has_path_split_and_template(dataset: object, path: str, value: object) -> None:
    assert read("sft", dataset).get(path) == value


@pytest.mark.parametrize(
    ("options", "path", "value"),
    [
        ({}, "data.packing", False),
        ({"sample_packing": False}, "data.packing", False),
        ({"sample_packing": True}, "data.packing", None),
        ({}, "data.max_length", 512),
        ({"val_set_size": 0.1}, "data.val_split", 0.1),
        ({"excess_length_strategy": "truncate"}, "data.on_overlong", "truncate"),
        ({"dataset_exact_deduplication": True}, "data.on_duplicate", "drop"),
        ({"default_system_message": "Be kind."}, "data.system", "Be kind."),
        ({"streaming": True}, "data.streaming", True),
        ({"test_datasets": [{"path": "val.jsonl"}]}, "data.val_split", "val.jsonl"),
        ({"chat_template": "llama3"}, "template", "llama3_chat"),
        ({"chat_template": "jinja", "chat_template_jinja": "{{ x }}"}, "template", {"type": "jinja", "source": "{{ x }}"}),
        ({}, "template", "wizardcoder"),
    ],
)  # fmt: skip
def test_keys_of_the_run_hold_for_its_datasets(options: dict[str, Any], path: str, value: object) -> None:
    assert read("sft", ROWS, **options).get(path) == value


def test_pretraining_is_packed_and_streamed_by_default() -> None:
    draft = read("pretrain", {"path": "org/text"})
    assert draft.get("data") == {
        "type": "text",
        "path": "org/text",
        "format": "text",
        "max_length": 512,
        "streaming": True,
        "val_split": None,
    }


def test_several_datasets_are_a_mixture() -> None:
    draft = read("sft", ROWS, ROWS | {"path": "org/b"}, val_set_size=5)
    sections = draft.get("data.datasets")
    assert [(name, section["val_split"]) for name, section in sections.items()] == [
        ("rows_1", 5),
        ("b_2", 5),
    ]


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("shards", 10, MISSING),
        ("roles_to_train", ["assistant"], TAKEN),
        ("roles_to_train", ["user", "assistant"], CHANGED),
        ("train_on_eos", "turn", TAKEN),
        ("train_on_eos", "all", CHANGED),
        ("message_field_training", "train", TAKEN),
        ("message_field_training", "mine", MISSING),
        ("trust_remote_code", True, CHANGED),
        ("drop_system_message", True, MISSING),
    ],
)
def test_every_key_of_a_dataset_is_listed(key: str, value: object, kind: str) -> None:
    entries = {entry.key: entry.kind for entry in read("sft", ROWS | {key: value}).entries}
    assert entries[f"datasets[0].{key}"] == kind


@pytest.mark.parametrize(
    ("dataset", "key"),
    [(5, "datasets[0]"), ({"type": "alpaca"}, "datasets[0].path"), ({"path": 5}, "datasets[0].path")],
)
def test_a_dataset_without_a_path_is_an_error(dataset: object, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("sft", dataset)
    assert caught.value.key == key
