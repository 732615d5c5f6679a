"""Raw text."""

from typing import Any

import pytest

from xft.data.formats import text
from xft.errors import DataError
from xft.registry import resolve


def test_text_is_unchanged() -> None:
    assert text({"text": " a\n", "title": "b"}) == " a\n"


def test_text_of_another_column() -> None:
    assert text({"text": "a", "body": "b"}, text="body") == "b"


def test_text_has_the_name_of_xtuner_too() -> None:
    assert resolve("format", "pretrain") is resolve("format", "text")


@pytest.mark.parametrize("row", [{}, {"text": None}, {"text": 3}, {"text": ["a"]}])
def test_text_missing_or_of_another_type_raises(row: dict[str, Any]) -> None:
    with pytest.raises(DataError) as error:
        text(row)
    assert (error.value.key, error.value.got) == ("text", row.get("text"))
