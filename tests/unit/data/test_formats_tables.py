"""Formats of tables: a map of columns, Alpaca's extras, and the named data sets that are parsed."""

from typing import Any

import pytest

from xft.config.build import build_component
from xft.data import formats
from xft.errors import ConfigError, DataError
from xft.types import Message, PreferencePair, Row, UnpairedExample

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
    with pytest.raises(DataError, match="field body: is null"):
        formats.columns({**ROW, "body": None}, **arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"user": "question", "assistant": "reply"},
            r"field question: is missing \(the row has 'title', 'body'",
        ),
        ({"user": "{question}", "assistant": "reply"}, "field question: is missing"),
        ({"user": "body", "assistant": "reply", "system": "rule"}, "field rule: is missing"),
        ({"user": "body.__class__", "assistant": "reply"}, "field body.__class__: is missing"),
        ({"user": "{body.__class__}", "assistant": "reply"}, "field body.__class__: is missing"),
        ({"user": "{body[0]}", "assistant": "reply"}, r"field body\[0\]: is missing"),
        ({"user": "good", "assistant": "reply"}, r"field good: got True \(bool\), expected text"),
        ({"user": "{title} {good}", "assistant": "reply"}, r"field good: got True \(bool\), expected text"),
        ({"user": "body", "assistant": "reply", "label": "title"}, "field title: got 'Sky'"),
        ({"user": "body", "chosen": "reply", "rejected": "reply"}, "the same, so nothing is preferred"),
    ],
)
def test_columns_that_are_not_there_or_no_text_are_refused(arguments: dict[str, str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        formats.columns(ROW, **arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "got nothing, expected user and assistant"),
        ({"user": "body"}, "got user, expected user and assistant"),
        ({"text": "body", "assistant": "reply"}, "got assistant, text, expected"),
        ({"text": "body", "system": "rules"}, "got text, expected"),
        ({"user": "body", "chosen": "reply"}, "got user, chosen, expected"),
        ({"user": "{}", "assistant": "reply"}, "'{}' cannot be read"),
        ({"user": "{body!r}", "assistant": "reply"}, "cannot be read"),
        ({"user": "{body:>9}", "assistant": "reply"}, "cannot be read"),
        ({"user": "{body", "assistant": "reply"}, "cannot be read"),
        ({"user": "body}", "assistant": "reply"}, "cannot be read"),
    ],
)
def test_a_map_that_means_nothing_is_a_config_error(arguments: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        formats.columns(ROW, **arguments)


# Alpaca


def test_alpaca_reads_earlier_turns_and_trains_them() -> None:
    row = {"instruction": "c", "output": "d", "history": [["a", "b"]], "system": "Be brief."}
    turns = [SYSTEM, Message("user", "a"), Message("assistant", "b", True), Message("user", "c")]
    assert formats.alpaca(row) == [*turns, Message("assistant", "d", True)]
    assert len(formats.alpaca({**row, "history": []})) == 3
    for wrong in ([["a"]], ["a", "b"], [["a", 1]], "a"):
        with pytest.raises(DataError, match="field history"):
            formats.alpaca({**row, "history": wrong})


def test_alpaca_marks_of_nothing() -> None:
    row = {"instruction": "a", "input": "<noinput>", "output": "b"}
    assert formats.alpaca(row)[0] == Message("user", "a")
    with pytest.raises(DataError, match="field output: got '<nooutput>'"):
        formats.alpaca({**row, "output": "<nooutput>"})


def test_the_system_text_of_a_row_goes_before_that_of_the_config() -> None:
    row = {"instruction": "a", "output": "b"}
    assert formats.alpaca(row, system_text="Be brief.")[0] == SYSTEM
    assert formats.alpaca({**row, "system": "Be long."}, system_text="Be brief.")[0].content == "Be long."


def test_blanks_are_filled_in_every_text() -> None:
    row = {
        "instruction": "Who are {{name}}?",
        "input": "{{ name }} {name}",
        "output": "{{name}} of {{author}}",
        "history": [["{{name}}", "b"]],
    }
    fill = {"name": r"\1{{name}}", "author": "Acme"}
    texts = [each.content for each in formats.alpaca(row, fill=fill)]
    name = r"\1{{name}}"
    assert texts == [name, "b", f"Who are {name}?\n{{{{ name }}}} {{name}}", f"{name} of Acme"]
    assert formats.alpaca(row)[-1].content == "{{name}} of {{author}}"
    with pytest.raises(DataError, match=r"field output: got '\{\{author\}\}'.*did you mean 'autor'"):
        formats.alpaca(row, fill={"name": "x", "autor": "y"})
    with pytest.raises(DataError, match=r"fill\['name'\]: got 7"):
        formats.alpaca(row, fill={"name": 7})  # type: ignore[dict-item]


# Data sets that XTuner's users know


def test_oasst1_keeps_headings_and_a_last_question() -> None:
    text = "### Human: How?### Assistant: Steps:\n### First\nDo it.\n### Human: And?### Assistant: Done.### Human: Ok"
    assert formats.oasst1({"text": text}) == [
        Message("user", "How?"),
        Message("assistant", "Steps:\n### First\nDo it.", True),
        Message("user", "And?"),
        Message("assistant", "Done.", True),
        Message("user", "Ok"),
    ]


@pytest.mark.parametrize("text", ["", "Hi", "Hi ### Human: x### Assistant: y", "Human: x Assistant: y"])
def test_oasst1_refuses_text_outside_of_turns(text: str) -> None:
    with pytest.raises(DataError, match="field text: got"):
        formats.oasst1({"text": text})


TURNS = [
    {"from": "system", "value": "Be brief."},
    {"from": "user", "value": "It's?"},
    {"from": "assistant", "value": "a"},
]


@pytest.mark.parametrize("value", [TURNS, repr(TURNS), str(TURNS).replace('"It\'s?"', "'It\\'s?'"), None])
def test_msagent_reads_literals(value: Any) -> None:
    import json

    row: Row = {"conversations": json.dumps(TURNS) if value is None else value}
    assert formats.msagent(row) == [SYSTEM, Message("user", "It's?"), Message("assistant", "a", True)]


@pytest.mark.parametrize("value", ["__import__('os').getcwd()", "[", "[open('x')]", "", "7", "[" * 3000])
def test_msagent_runs_nothing(value: str) -> None:
    with pytest.raises(DataError, match="field conversations: got"):
        formats.msagent({"conversations": value})


def test_colors_leaves_out_the_name_when_asked_to() -> None:
    row = {"description": "Pure Black: dark: very.", "color": "#000000"}
    assert formats.colors(row)[1].content == "Pure Black: dark: very."
    assert formats.colors(row, keep_name=False)[1].content == "dark: very."
    with pytest.raises(DataError, match="field description: got 'black'"):
        formats.colors({**row, "description": "black"}, keep_name=False)


def test_wizardlm_keeps_what_xtuner_leaves_out() -> None:
    turns = [{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}]
    assert formats.wizardlm({"conversations": turns}) == [
        Message("assistant", "a", True),
        Message("user", "b"),
    ]


def test_llava_takes_text_and_refuses_what_shows_an_image() -> None:
    """An answer may speak of ``<image>``, as code for SVG does; a question with it stands for a picture."""
    question, answer = {"from": "human", "value": "Draw."}, {"from": "gpt", "value": "<image>"}
    assert [each.content for each in formats.llava({"conversations": [question, answer]})] == [
        "Draw.",
        "<image>",
    ]
    with pytest.raises(DataError, match=r"field image: got 'a\.jpg', expected a row of text alone"):
        formats.llava({"image": "a.jpg", "conversations": [question, answer]})
    shown = {"from": "human", "value": "<image>\nWhat is it?"}
    with pytest.raises(DataError, match=r"field conversations\[1\]: got '<image>.*expected text alone"):
        formats.llava({"conversations": [shown, answer]})


@pytest.mark.parametrize("function", [formats.arxiv, formats.colors, formats.sql])
def test_the_system_text_of_a_data_set_can_be_changed_or_taken_away(function: Any) -> None:
    row = {
        "abstract": "a",
        "title": "b",
        "description": "a",
        "color": "b",
        "question": "a",
        "context": "c",
        "answer": "b",
    }
    assert [each.role for each in function(row)] == ["system", "user", "assistant"]
    assert [each.role for each in function(row, system_text="")] == ["user", "assistant"]
    assert function(row, system_text="Be brief.")[0] == SYSTEM


@pytest.mark.parametrize("function", [formats.alpaca_zh, formats.medical])
def test_an_empty_input_adds_no_line(function: Any) -> None:
    row = {
        "instruction": "a",
        "instruction_zh": "a",
        "input": None,
        "input_zh": "",
        "output": "b",
        "output_zh": "b",
    }
    assert function(row) == [Message("user", "a"), Message("assistant", "b", True)]
