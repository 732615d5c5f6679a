from typing import Any

import pytest

from xft.migration.arguments import Arguments
from xft.migration.axolotl_formats import import_format
from xft.migration.draft import CHANGED, MISSING, Draft

OPTIONS = {
    "field_instruction": "q",
    "field_input": "context",
    "field_output": "a",
    "system_prompt": "Be kind.",
}


def read(kind: str, **dataset: Any) -> tuple[object, Draft]:
    draft = Draft("axolotl")
    format = import_format(Arguments(draft, dataset, "datasets[0]."), kind)
    draft.close(())
    assert draft.unexplained == []
    return format, draft


@pytest.mark.parametrize(
    ("kind", "dataset", "format"),
    [
        ("instruction", {"type": "alpaca"}, "alpaca"),
        ("instruction", {"type": "alpaca:chat"}, "alpaca"),
        ("instruction", {"type": "chat_template"}, "openai"),
        (
            "instruction",
            {"type": "chat_template", "field_messages": "chat", "field_tools": "functions"},
            {"type": "openai", "messages": "chat", "tools": "functions"},
        ),
        (
            "instruction",
            {
                "type": "chat_template",
                "field_messages": "conversations",
                "message_property_mappings": {"role": "from", "content": "value"},
            },
            "sharegpt",
        ),
        (
            "instruction",
            {"type": "chat_template", "message_field_role": "from"},
            {"type": "sharegpt", "conversations": "messages"},
        ),
        (
            "instruction",
            {"type": OPTIONS},
            {
                "type": "alpaca",
                "instruction": "q",
                "input": "context",
                "output": "a",
                "system_text": "Be kind.",
            },
        ),
        (
            "instruction",
            {"type": OPTIONS | {"format": "{instruction}: {input}", "field_system": "s"}},
            {
                "type": "columns",
                "user": "{q}: {context}",
                "assistant": "a",
                "system": "s",
                "system_text": "Be kind.",
            },
        ),
        ("text", {"type": "completion", "field": "body"}, {"type": "text", "text": "body"}),
        ("text", {"text_column": "text"}, "text"),
        ("instruction", {"type": "my_own"}, "auto"),
        ("preference", {"type": "chatml.intel"}, "intel_orca_dpo"),
        (
            "preference",
            {"type": "chat_template.default", "field_messages": "chat", "field_chosen": "chosen"},
            {"type": "preference", "prompt": "chat"},
        ),
        ("preference", {"type": {"field_prompt": "q", "field_chosen": "good"}}, {"type": "preference", "prompt": "q", "chosen": "good"}),
        ("unpaired_preference", {"type": "llama3.ultra"}, "kto"),
        ("unpaired_preference", {"type": {"field_completion": "text"}}, {"type": "kto", "completion": "text"}),
    ],
)  # fmt: skip
def test_types_of_datasets_are_formats(kind: str, dataset: dict[str, Any], format: object) -> None:
    assert read(kind, **dataset)[0] == format


def test_a_key_is_listed_once() -> None:
    mapping = {"role": "from", "content": "value"}
    draft = read("instruction", type="chat_template", message_property_mappings=mapping)[1]
    keys = [entry.key for entry in draft.entries]
    assert len(keys) == len(set(keys)) == 3


def test_texts_around_columns_are_listed() -> None:
    options = OPTIONS | {
        "format": "Q: {instruction}",
        "no_input_format": "{instruction}",
        "system_format": "{system}",
    }
    entries = {entry.key: entry.kind for entry in read("instruction", type=options)[1].entries}
    assert entries["datasets[0].type.format"] == CHANGED
    assert entries["datasets[0].type.no_input_format"] == MISSING
    assert entries["datasets[0].type.system_format"] == MISSING
    assert {f"datasets[0].type.{key}" for key in OPTIONS} <= entries.keys()


def test_a_column_that_the_format_does_not_have_is_missing() -> None:
    entries = {
        entry.key: entry.kind for entry in read("instruction", type="alpaca", field_human="q")[1].entries
    }
    assert entries["datasets[0].field_human"] == MISSING
