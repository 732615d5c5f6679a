"""Read the values of a config by their type. A value of another type is a ``ValueError`` with what was expected."""

import math
from datetime import date

MAX_WHOLE = 10**15
"""Largest number of rows, steps or tokens."""


def number(value: object) -> float:
    """Return a finite number; a text such as ``1e-4`` is one, as YAML reads it."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            converted = float(value)
        except (ValueError, OverflowError):
            converted = math.nan
        if math.isfinite(converted):
            return converted
    raise ValueError("a number")


def whole(value: object) -> int:
    """Return a whole number; ``3.0`` is one."""
    try:
        converted = number(value)
    except ValueError:
        converted = math.nan
    if not converted.is_integer() or abs(converted) > MAX_WHOLE:
        raise ValueError("a whole number")
    return int(converted)


def count(value: object) -> int:
    """Return a whole number of at least 1."""
    try:
        converted = whole(value)
    except ValueError:
        converted = 0
    if converted < 1:
        raise ValueError("a whole number of at least 1")
    return converted


def text(value: object) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def label(value: object) -> str:
    """Return a text; a number or a date that YAML has read from one is a text again."""
    if isinstance(value, (str, int, float, date)) and not isinstance(value, bool):
        return str(value)
    raise ValueError("a text")


def switch(value: object) -> bool:
    """Return true or false, also from 0, 1, and the words that transformers reads."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}  # fmt: skip
    result = words.get(str(value).lower()) if isinstance(value, (bool, int, str)) else None
    if result is None:
        raise ValueError("true or false")
    return result


def names(value: object) -> list[str]:
    """Return a list of texts; a text holds several, separated by commas."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("a list of texts")
    return [item.strip() for item in items if item.strip()]


def split_size(value: object) -> float | int | None:
    """Return the size of a validation split: a fraction below 1, or a number of rows; ``None`` for 0."""
    size = number(value)
    if size < 0:
        raise ValueError("a fraction, or a number of rows")
    return (size if size < 1 else whole(value)) or None
