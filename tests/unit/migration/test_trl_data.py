from typing import Any

import pytest

from xft.migration.arguments import Arguments
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.migration.trl import METHODS
from xft.migration.trl_data import import_data


def read(method: str = "sft", **values: Any) -> Draft:
    draft = Draft("TRL")
    arguments = Arguments(draft, {"dataset_name": "org/rows"} | values)
    import_data(arguments, method, METHODS[method])
    arguments.pop("eval_strategy")
    draft.keys.pop("eval_strategy", None)
    draft.close(())
    assert draft.unexplained == []
    return draft


@pytest.mark.parametrize(
    ("values", "path", "value"),
    [
        ({"dataset_config": "en", "dataset_train_split": "dev"}, "data.path", "org/rows:en"),
        ({"dataset_config": "en", "dataset_train_split": "dev"}, "data.split", "dev"),
        ({"dataset_name": None, "train_file": "a.jsonl"}, "data.path", "a.jsonl"),
        ({"dataset_name": None}, "data.path", "my_rows.jsonl"),
        (
            {"dataset_name": None, "datasets": [{"path": "org/a", "name": "en", "split": "dev"}]},
            "data.path",
            "org/a:en",
        ),
        ({"dataset_streaming": True}, "data.streaming", True),
        ({}, "data.max_length", 1024),
        ({"max_seq_length": 256}, "data.max_length", 256),
        ({}, "data.on_overlong", "truncate"),
        ({}, "data.packing", False),
        ({"packing": False}, "data.packing", False),
        ({"packing": True}, "data.packing", None),
        ({"method": "grpo", "max_prompt_length": 99}, "data.max_length", 99),
        ({"method": "grpo"}, "data.packing", None),
        ({"dataset_text_field": "body"}, "data.format", {"type": "text", "text": "body"}),
        ({"dataset_text_field": "body"}, "objective.type", "pretrain"),
        ({"dataset_text_field": "text"}, "data.type", "instruction"),
        ({"test_split_size": 0.1}, "data.val_split", 0.1),
    ],
)
def test_keys_have_their_place(values: dict[str, Any], path: str, value: object) -> None:
    assert read(**values).get(path) == value


def test_rows_are_held_out_only_if_they_are_evaluated() -> None:
    assert read().has("data.val_split")
    assert read().get("data.val_split") is None
    assert not read(eval_strategy="steps").has("data.val_split")


@pytest.mark.parametrize(
    ("values", "key", "kind"),
    [
        ({}, "assistant_only_loss", CHANGED),
        ({"assistant_only_loss": True}, "assistant_only_loss", TAKEN),
        ({"completion_only_loss": False}, "completion_only_loss", CHANGED),
        ({"dataset_text_field": "text"}, "dataset_text_field", CHANGED),
        ({"truncation_mode": "keep_end"}, "truncation_mode", CHANGED),
        ({"packing": True, "packing_strategy": "wrapped"}, "packing_strategy", CHANGED),
        ({"eval_strategy": "steps", "dataset_test_split": "dev"}, "dataset_test_split", CHANGED),
        ({"dataset_test_split": "dev"}, "dataset_test_split", TAKEN),
        ({"max_prompt_length": 9}, "max_prompt_length", CHANGED),
        ({"dataset_name": None, "datasets": [{"path": "a"}, {"path": "b"}]}, "datasets[1].path", MISSING),
    ],
)
def test_other_keys_are_listed(values: dict[str, Any], key: str, kind: str) -> None:
    assert {entry.key: entry.kind for entry in read(**values).entries}[key] == kind
