"""Presets of columns."""

import inspect
import pickle

import pytest

from xft.data import formats
from xft.data.formats import presets
from xft.errors import DataError
from xft.registry import resolve
from xft.types import Message

NAMES = ("arxiv", "code_alpaca", "crime_kg_assistant", "law_reference", "stack_exchange", "tiny_codes")


@pytest.mark.parametrize("name", NAMES)
def test_preset_equals_columns_with_its_defaults(name: str) -> None:
    preset = resolve("format", name)
    arguments = {
        key: item.default for key, item in inspect.signature(preset).parameters.items() if key != "row"
    }
    row = {arguments["user"]: "Hi", arguments["assistant"]: "<think>So.</think>Hello"}
    assert preset(row) == formats.columns(row, **arguments)
    assert preset(row, split_think=False)[-1].content == "<think>So.</think>Hello"
    assert preset.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_preset_pickles_to_the_registered_function(name: str) -> None:
    assert pickle.loads(pickle.dumps(resolve("format", name))) is getattr(presets, name)


def test_preset_accepts_other_columns() -> None:
    row = {"summary": "We count apples.", "title": "On Apples"}
    assert presets.arxiv(row, user="summary", system_text="") == [
        Message("user", "We count apples."),
        Message("assistant", "On Apples", True),
    ]


def test_preset_missing_column_names_the_field() -> None:
    with pytest.raises(DataError) as caught:
        presets.tiny_codes({"prompt": "Print 1."})
    assert (caught.value.key, caught.value.expected) == ("response", "text")
