"""Formats of tables: a map of columns, Alpaca's extras, and the named data sets that are parsed."""

from typing import Any

import pytest

from xft.config.build import build_component
from xft.data import formats
from xft.errors import ConfigError, DataError
from xft.types import Message, PreferencePair, UnpairedExample

ROW = {
    "title": "Sky",
    "body": "Is it blue?",
    "reply": "Yes.",
    "other": "No.",
    "rules": "Be brief.",
    "good": True,
}
SYSTEM = Message("system", "Be brief.")
ASK = Message("user", "Is it blue?")
YES = Message("assistant", "Yes.", True)
NO = Message("assistant", "No.", True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"user": "body", "assistant": "reply"}, [ASK, YES]),
        ({"user": "body", "assistant": "reply", "system": "rules"}, [SYSTEM, ASK, YES]),
        ({"user": "body", "assistant": "reply", "system_text": "Be brief."}, [SYSTEM, ASK, YES]),
        ({"user": "{title}\n{body}", "assistant": "{reply}"}, [Message("user", "Sky\nIs it blue?"), YES]),
        ({"user": "{{{title}}} {{", "assistant": "reply"}, [Message("user", "{Sky} {"), YES]),
        ({"user": "body", "chosen": "reply", "rejected": "other"}, PreferencePair([ASK], [YES], [NO])),
        (
            {"user": "body", "chosen": "reply", "rejected": "other", "system": "rules"},
            PreferencePair([SYSTEM, ASK], [YES], [NO]),
        ),
        ({"user": "body", "assistant": "reply", "label": "good"}, UnpairedExample([ASK], [YES], True)),
        ({"text": "{title}: {body}"}, "Sky: Is it blue?"),
        ({"text": "body"}, "Is it blue?"),
    ],
)
def test_columns_map_any_table(arguments: dict[str, str], expected: Any) -> None:
    assert formats.columns(ROW, **arguments) == expected
    assert build_component("format", {"type": "columns", **arguments})(ROW) == expected


@pytest.mark.parametrize("empty", ["", None])
def test_a_system_column_may_be_empty_and_others_not_null(empty: Any) -> None:
    arguments = {"user": "body", "assistant": "reply", "system": "rules"}
    assert formats.columns({**ROW, "rules": empty}, **arguments) == [ASK, YES]
    with pytest.raises(DataError) as caught:
        formats.columns({**ROW, "body": None}, **arguments)
    assert caught.value.key == "body"


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (
            {"user": "question", "assistant": "reply"},
            "question",
        ),
        ({"user": "{question}", "assistant": "reply"}, "question"),
        ({"user": "body", "assistant": "reply", "system": "rule"}, "rule"),
        ({"user": "body.__class__", "assistant": "reply"}, "body.__class__"),
        ({"user": "{body.__class__}", "assistant": "reply"}, "body.__class__"),
        ({"user": "{body[0]}", "assistant": "reply"}, "body[0]"),
        ({"user": "good", "assistant": "reply"}, "good"),
        ({"user": "{title} {good}", "assistant": "reply"}, "good"),
        ({"user": "body", "assistant": "reply", "label": "title"}, "title"),
        ({"user": "body", "chosen": "reply", "rejected": "reply"}, "reply"),
    ],
)
def test_columns_missing_or_not_text_raises(arguments: dict[str, str], key: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.columns(ROW, **arguments)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ({}, "nothing"),
        ({"user": "body"}, "user"),
        ({"text": "body", "assistant": "reply"}, "assistant, text"),
        ({"text": "body", "system": "rules"}, "text"),
        ({"user": "body", "chosen": "reply"}, "user, chosen"),
        ({"user": "{}", "assistant": "reply"}, "{}"),
        ({"user": "{body!r}", "assistant": "reply"}, "{body!r}"),
        ({"user": "{body:>9}", "assistant": "reply"}, "{body:>9}"),
        ({"user": "{body", "assistant": "reply"}, "{body"),
        ({"user": "body}", "assistant": "reply"}, "body}"),
    ],
)
def test_columns_invalid_arguments_raise_config_error(arguments: dict[str, str], got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        formats.columns(ROW, **arguments)
    assert (caught.value.key, caught.value.got) == ("format.columns", got)
