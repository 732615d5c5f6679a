"""A prompt and a completion may be a text, a turn, turns, or a cell of a column that holds turns as text."""

import json
from typing import Any

import pytest

from xft.data.formats.completions import read_turns
from xft.data.formats.turns_as_text import TurnsAsText
from xft.errors import DataError
from xft.types import Message

TURN = {"role": "assistant", "content": "Yes"}


@pytest.mark.parametrize(
    "value",
    ["Yes", TURN, [TURN], *map(TurnsAsText, (json.dumps([TURN]), str([TURN]), json.dumps(TURN)))],
)
def test_forms_of_an_answer_agree(value: Any) -> None:
    assert read_turns({"chosen": value}, "chosen", True) == [Message("assistant", "Yes", True)]


@pytest.mark.parametrize("text", [json.dumps([TURN]), str(TURN), "[{broken", "[1, 2]", "{}"])
def test_text_that_looks_like_turns_is_the_answer(text: str) -> None:
    assert read_turns({"chosen": text}, "chosen", True) == [Message("assistant", text, True)]


@pytest.mark.parametrize("text", ["Yes", '[{"a": 1}]', "[{broken", '{"name": "x", "content": 1}', "[1, 2]"])
def test_text_in_a_column_of_turns_raises(text: str) -> None:
    with pytest.raises(DataError) as caught:
        read_turns({"chosen": TurnsAsText(text)}, "chosen", True)
    assert (caught.value.key, caught.value.got) == ("chosen", text)


@pytest.mark.parametrize("value", [None, 3, []])
def test_invalid_answer_raises(value: Any) -> None:
    with pytest.raises(DataError) as caught:
        read_turns({"chosen": value}, "chosen", True)
    assert caught.value.key == "chosen"
