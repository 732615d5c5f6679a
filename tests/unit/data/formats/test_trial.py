"""Formats are applied to rows, and tried on some of them."""

import pytest

from xft.data.formats import alpaca, text
from xft.data.formats.trial import MAX_PLACES, apply_format, misfit_error, try_format
from xft.errors import DataError
from xft.types import Row

GOOD = {"instruction": "Add.", "output": "3", "note": "x"}


def test_apply_format_names_the_format_that_raises() -> None:
    def mine(row: Row) -> str:
        return str(row["say"])

    with pytest.raises(DataError, match="'mine' raises KeyError: 'say'"):
        apply_format(mine, {"a": 1})


def test_try_format_returns_rows_that_do_not_fit_and_columns_that_are_not_read() -> None:
    video = {**GOOD, "video": "a.mp4"}
    trial = try_format(alpaca, [GOOD, {"instruction": "Add."}, GOOD, video], "instruction")
    assert {index: error.key for index, error in trial.misfits.items()} == {1: "output", 3: "video"}
    assert trial.usage.unread() == {"note": 2}
    assert not try_format(text, [{"text": "Once", "image": "a.png"}], "text").misfits


def test_misfit_error_names_some_rows() -> None:
    rows: list[Row] = [GOOD] + [{"instruction": "Add."}] * (MAX_PLACES + 2)
    places = [f"a.jsonl:{number}" for number in range(1, len(rows) + 1)]
    error = misfit_error(try_format(alpaca, rows, "instruction"), places, "data.format=alpaca")
    assert str(error).startswith("a.jsonl:2: field output: is missing")
    assert "7 of the 8 rows that were tried do not fit data.format=alpaca: a.jsonl:2, " in str(error)
    assert str(error).endswith("a.jsonl:6 and 2 more")
    assert error.key == "output"
