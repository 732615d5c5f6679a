import json
from pathlib import Path
from typing import Any

import pytest

from xft.migration.arguments import Arguments
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.migration.llama_factory_data import import_data

INFO: dict[str, Any] = {
    "mine": {"file_name": "mine.json"},
    "hub": {"hf_hub_url": "org/rows", "split": "dev", "subset": "en", "num_samples": 9},
    "columns": {"file_name": "c.json", "columns": {"prompt": "q", "query": "input", "response": "a"}},
    "turns": {"file_name": "t.json", "formatting": "sharegpt", "columns": {"messages": "chat"}},
    "openai": {"file_name": "o.json", "formatting": "openai", "columns": {"messages": "messages", "tools": "functions"}},
    "tags": {"file_name": "g.json", "formatting": "sharegpt", "columns": {"messages": "chat"}, "tags": {"role_tag": "who"}},
}  # fmt: skip


def read(folder: Path, kind: str = "instruction", **values: Any) -> Draft:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "dataset_info.json").write_text(json.dumps(INFO))
    draft = Draft("LLaMA-Factory", {"model": {"type": "causal_lm"}})
    import_data(Arguments(draft, {"dataset": "mine"} | values), kind, folder / "examples" / "c.yaml")
    draft.close(())
    assert draft.unexplained == []
    return draft


@pytest.mark.parametrize(
    ("values", "path", "value"),
    [
        ({}, "data.path", "data/mine.json"),
        ({}, "data.max_length", 2048),
        ({}, "data.packing", False),
        ({"packing": False}, "data.packing", False),
        ({"packing": True}, "data.packing", None),
        ({"neat_packing": True}, "data.packing", None),
        ({"kind": "text"}, "data.packing", None),
        ({"kind": "text", "packing": False}, "data.on_overlong", None),
        ({"max_samples": 100}, "data.path", "data/mine.json#100"),
        ({"dataset": "hub"}, "data.path", "org/rows:en#9"),
        ({"dataset": "hub"}, "data.split", "dev"),
        ({"dataset": "columns"}, "data.format", {"type": "alpaca", "instruction": "q", "output": "a"}),
        ({"dataset": "turns"}, "data.format", {"type": "sharegpt", "conversations": "chat"}),
        ({"dataset": "openai"}, "data.format", {"type": "openai", "tools": "functions"}),
        ({"dataset": "tags"}, "data.format", "auto"),
        (
            {"dataset": ["mine", "hub"], "interleave_probs": "0.7,0.3"},
            "data.weights",
            {"mine": 0.7, "hub": 0.3},
        ),
        ({"eval_dataset": "turns"}, "data.val_split", "data/t.json"),
        ({"val_size": 20}, "data.val_split", 20),
        ({"default_system": "Be kind."}, "data.system", "Be kind."),
        ({"media_dir": "images"}, "data.image_folder", "images"),
        ({"mask_history": True}, "template", {"type": "auto", "mask_history": True}),
        (
            {"template": "qwen3", "enable_thinking": False},
            "template",
            {"type": "qwen3", "chat_template_kwargs": {"enable_thinking": False}},
        ),
    ],
)
def test_keys_have_their_place(tmp_path: Path, values: dict[str, Any], path: str, value: object) -> None:
    assert read(tmp_path, **values).get(path) == value


def test_without_validation_rows_all_rows_are_trained_on(tmp_path: Path) -> None:
    draft = read(tmp_path)
    assert draft.has("data.val_split")
    assert draft.get("data.val_split") is None
    texts = {entry.key: entry.text for entry in draft.entries}
    assert "the default of LLaMA-Factory" in texts["val_size"]
    assert "the default of LLaMA-Factory" in texts["neat_packing"]


@pytest.mark.parametrize(
    ("values", "key", "kind"),
    [
        ({"dataset": "absent"}, "dataset absent", CHANGED),
        ({"dataset": "tags"}, "dataset tags", CHANGED),
        ({"eval_dataset": "mine,hub"}, "eval_dataset", CHANGED),
        ({"mix_strategy": "concat"}, "mix_strategy", TAKEN),
        ({"mix_strategy": "interleave_over"}, "mix_strategy", CHANGED),
        ({"interleave_probs": "0.7,0.3"}, "interleave_probs", MISSING),
        ({"kind": "text", "max_samples": 5}, "max_samples", MISSING),
        ({"template": "nobody"}, "template", CHANGED),
        ({"tool_format": "x"}, "tool_format", MISSING),
    ],
)
def test_other_keys_are_listed(tmp_path: Path, values: dict[str, Any], key: str, kind: str) -> None:
    assert {entry.key: entry.kind for entry in read(tmp_path, **values).entries}[key] == kind
