"""The format ``auto`` reads a row by itself, as instruction data."""

import pytest

from xft.data.formats import auto
from xft.errors import DataError
from xft.types import Message


def test_auto_reads_a_row_with_the_format_that_fits() -> None:
    assert auto({"query": "Hi", "response": "Hello"}) == [
        Message("user", "Hi"),
        Message("assistant", "Hello", is_target=True),
    ]


def test_auto_raises_if_no_format_fits() -> None:
    with pytest.raises(DataError) as caught:
        auto({"a": "Hi", "b": "Hello"})
    assert caught.value.key == "data.format"
