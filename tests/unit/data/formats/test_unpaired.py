"""Labeled answers of KTO, and TRL's prompt and completion."""

import json
from typing import Any

import pytest

from xft.data import formats
from xft.data.formats.turns_as_text import TurnsAsText
from xft.errors import DataError
from xft.types import Conversation, Message, Row, UnpairedExample

ASK = Message("user", "What color is the sky?")
BLUE = Message("assistant", "It is blue.", True)
SYSTEM = Message("system", "Be brief.")


def said(message: Message) -> Row:
    return {"role": message.role, "content": message.content}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK.content, "completion": "It is blue.", "label": True},
        {"prompt": [said(ASK)], "completion": [said(BLUE)], "label": 1},
        {
            "conversations": [
                {"from": "human", "value": ASK.content},
                {"from": "gpt", "value": "It is blue."},
            ],
            "kto_tag": True,
        },
        {"messages": [said(ASK), said(BLUE)], "label": "true"},
        {"messages": [said(ASK), {**said(BLUE), "weight": 0}], "label": True, "kto_tag": True},
    ],
)
def test_kto_all_forms_agree(row: Row) -> None:
    assert formats.kto(row) == UnpairedExample([ASK], [BLUE], label=True)
    assert formats.kto({**row, "system": "Be brief."}).prompt == [SYSTEM, ASK]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"label": None}, "label"),
        ({"label": "good"}, "label"),
        ({"label": 0.3}, "label"),
        ({"kto_tag": False}, "label"),
        ({"completion": None}, "completion"),
        ({"prompt": None}, "prompt"),
        ({"conversations": [said(ASK), said(BLUE)]}, "completion"),
        (
            {"completion": None, "messages": [said(BLUE), said(ASK)]},
            "messages",
        ),
        ({"completion": None, "messages": [said(BLUE)]}, "messages"),
    ],
)
def test_kto_invalid_row_raises(change: Row, key: str) -> None:
    row: dict[str, Any] = {"prompt": ASK.content, "completion": "It is blue.", "label": True}
    with pytest.raises(DataError) as caught:
        formats.kto({**row, **change})
    assert caught.value.key == key


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK.content, "completion": BLUE.content},
        {"prompt": [said(ASK)], "completion": [said(BLUE)]},
        {"prompt": [said(ASK)], "completion": said(BLUE)},
        {
            "prompt": TurnsAsText(json.dumps([said(ASK)])),
            "completion": TurnsAsText(json.dumps([said(BLUE)])),
        },
        {"prompt": [{"from": "human", "value": ASK.content}], "completion": BLUE.content},
    ],
)
def test_prompt_completion_all_forms_agree(row: Row) -> None:
    assert formats.prompt_completion(row) == [ASK, BLUE]
    assert formats.prompt_completion({**row, "system": "Be brief."}) == [SYSTEM, ASK, BLUE]


def test_answers_of_the_prompt_are_no_targets() -> None:
    row = {"prompt": [*map(said, [ASK, BLUE, Message("user", "Why?")])], "completion": "Light."}
    turns = formats.prompt_completion(row)
    assert not isinstance(turns, Conversation)
    assert [turn.is_target for turn in turns] == [False, False, False, True]


def test_prompt_completion_reads_tools() -> None:
    row = {"prompt": ASK.content, "completion": BLUE.content, "tools": [{"name": "look"}]}
    value = formats.prompt_completion(row)
    assert isinstance(value, Conversation)
    assert value.tools[0]["function"]["name"] == "look"


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"prompt": ASK.content}, "completion"),
        ({"completion": "x"}, "prompt"),
        ({"prompt": [said(BLUE)], "completion": "x"}, "completion"),
        ({"prompt": ASK.content, "completion": [said(ASK)]}, "completion"),
    ],
)
def test_prompt_completion_invalid_row_raises(row: Row, key: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.prompt_completion(row)
    assert caught.value.key == key
