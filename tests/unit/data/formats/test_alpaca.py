"""Alpaca rows: optional input, history, system text and placeholders."""

import pytest

from xft.data import formats
from xft.errors import DataError
from xft.types import Message

SYSTEM = Message("system", "Be brief.")


def test_alpaca_reads_earlier_turns_and_trains_them() -> None:
    row = {"instruction": "c", "output": "d", "history": [["a", "b"]], "system": "Be brief."}
    turns = [SYSTEM, Message("user", "a"), Message("assistant", "b", True), Message("user", "c")]
    assert formats.alpaca(row) == [*turns, Message("assistant", "d", True)]
    assert len(formats.alpaca({**row, "history": []})) == 3
    for wrong in ([["a"]], ["a", "b"], [["a", 1]], "a"):
        with pytest.raises(DataError) as caught:
            formats.alpaca({**row, "history": wrong})
        assert caught.value.key == "history" + ("" if wrong == "a" else "[1]")


def test_alpaca_marks_of_nothing() -> None:
    row = {"instruction": "a", "input": "<noinput>", "output": "b"}
    assert formats.alpaca(row)[0] == Message("user", "a")
    with pytest.raises(DataError) as caught:
        formats.alpaca({**row, "output": "<nooutput>"})
    assert caught.value.key == "output"


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
    texts = [message.content for message in formats.alpaca(row, fill=fill)]
    name = r"\1{{name}}"
    assert texts == [name, "b", f"Who are {name}?\n{{{{ name }}}} {{name}}", f"{name} of Acme"]
    assert formats.alpaca(row)[-1].content == "{{name}} of {{author}}"
    with pytest.raises(DataError) as caught:
        formats.alpaca(row, fill={"name": "x", "autor": "y"})
    assert caught.value.key == "output"
    assert (caught.value.got, caught.value.fix) == ("{{author}}", "did you mean 'autor'?")
    with pytest.raises(DataError) as caught:
        formats.alpaca(row, fill={"name": 7})  # type: ignore[dict-item]
    assert caught.value.key == "fill['name']"
    assert caught.value.got == 7
