"""A prompt and a completion may be a text, a turn, or turns as the text of a table cell."""

import json
from typing import Any

import pytest

from xft.data.formats.completions import read_turns
from xft.errors import DataError
from xft.types import Message

TURN = {"role": "assistant", "content": "Yes"}


@pytest.mark.parametrize("value", ["Yes", TURN, [TURN], json.dumps([TURN]), str([TURN]), json.dumps(TURN)])
def test_forms_of_an_answer_agree(value: Any) -> None:
    assert read_turns({"chosen": value}, "chosen", True) == [Message("assistant", "Yes", True)]


@pytest.mark.parametrize("text", ['[{"a": 1}]', "[{broken", '{"name": "x", "content": 1}', "[1, 2]", "{}"])
def test_json_that_is_no_turn_is_the_answer(text: str) -> None:
    assert read_turns({"chosen": text}, "chosen", True) == [Message("assistant", text, True)]


@pytest.mark.parametrize("value", [None, 3, []])
def test_invalid_answer_raises(value: Any) -> None:
    with pytest.raises(DataError) as caught:
        read_turns({"chosen": value}, "chosen", True)
    assert caught.value.key == "chosen"
