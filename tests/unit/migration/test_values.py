"""Values by their type, and what was expected of others."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from xft.migration.values import count, label, names, number, split_size, switch, text, whole


@pytest.mark.parametrize(
    ("convert", "value", "converted"),
    [
        (number, "1e-4", 1e-4),
        (number, 3, 3.0),
        (whole, 3.0, 3),
        (whole, "-1", -1),
        (count, 1, 1),
        (label, 2024, "2024"),
        (label, date(2024, 1, 2), "2024-01-02"),
        (switch, "True", True),
        (switch, 0, False),
        (names, "a, b,", ["a", "b"]),
        (names, ["a"], ["a"]),
        (split_size, 0.1, 0.1),
        (split_size, 20.0, 20),
        (split_size, 0, None),
    ],
)
def test_values_are_converted(
    convert: Callable[[object], object], value: object, converted: object
) -> None:
    result = convert(value)
    assert (result, type(result)) == (converted, type(converted))


@pytest.mark.parametrize(
    ("convert", "values"),
    [
        (number, [True, None, [], "x", float("nan"), float("inf"), 10**400, "1e999"]),
        (whole, [1.5, 1e300, "x", True]),
        (count, [0, -1, "x"]),
        (text, [1, None, ["a"]]),
        (label, [True, None, []]),
        (switch, ["maybe", 2, 1.0, None, []]),
        (names, [1, [1], {"a": 1}, None]),
        (split_size, [-1, 1.5, "x"]),
    ],
)
def test_other_values_are_an_error(convert: Callable[[object], object], values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=r"[a-z]"):
            convert(value)
