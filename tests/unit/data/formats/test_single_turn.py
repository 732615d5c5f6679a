"""Formats with one question and one answer."""

from typing import Any

import pytest

from xft.data import formats
from xft.errors import DataError
from xft.types import Message

SYSTEM = Message("system", "Be brief.")


def test_colors_leaves_out_the_name_when_asked_to() -> None:
    row = {"description": "Pure Black: dark: very.", "color": "#000000"}
    assert formats.colors(row)[1].content == "Pure Black: dark: very."
    assert formats.colors(row, keep_name=False)[1].content == "dark: very."
    with pytest.raises(DataError) as caught:
        formats.colors({**row, "description": "black"}, keep_name=False)
    assert caught.value.key == "description"
    assert caught.value.got == "black"


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
    assert [message.role for message in function(row)] == ["system", "user", "assistant"]
    assert [message.role for message in function(row, system_text="")] == ["user", "assistant"]
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
