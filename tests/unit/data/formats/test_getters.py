"""Fields of rows: accepted values, and errors with path, value and expected type."""

from collections.abc import Callable
from typing import Any

import pytest

from xft.data.formats.getters import (
    field_error,
    get_list,
    get_object,
    get_text,
    missing_field_error,
    parse_bool,
    parse_float,
    parse_json,
)
from xft.errors import DataError, EmptyAnswerError

Parts = tuple[str, object]


def parts_of(action: Callable[[], object]) -> Parts:
    """Return key and value of the error that an action raises."""
    with pytest.raises(DataError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return caught.value.key, caught.value.got


def test_field_error_has_class_and_parts() -> None:
    error = field_error("output", "is empty", "text", "", "delete the row", EmptyAnswerError)
    assert isinstance(error, EmptyAnswerError)
    assert (error.key, error.got, error.expected, error.fix) == ("output", "", "text", "delete the row")


@pytest.mark.parametrize(
    ("row", "parent", "path", "problem"),
    [
        ({"a": 1, "b": 2}, "", "x", "is missing (the row has 'a', 'b')"),
        ({}, "", "x", "is missing (the row has no columns)"),
        ({"x": None}, "", "x", "is null"),
        ({"a": 1}, "messages[3]", "messages[3].x", "is missing (it has 'a')"),
    ],
)
def test_missing_field_error_lists_the_columns(
    row: dict[str, Any], parent: str, path: str, problem: str
) -> None:
    error = missing_field_error(row, "x", parent)
    assert (error.key, error.expected) == (path, "text")
    assert problem in str(error)


@pytest.mark.parametrize(
    ("row", "optional", "expected"),
    [({"x": "a"}, False, "a"), ({"x": ""}, False, ""), ({"x": None}, True, ""), ({}, True, "")],
)
def test_get_text_returns_the_text(row: dict[str, Any], optional: bool, expected: str) -> None:
    assert get_text(row, "x", optional=optional) == expected


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("value", [3, ["a"], {"a": "b"}, False])
def test_get_text_of_another_type_raises(value: object, optional: bool) -> None:
    assert parts_of(lambda: get_text({"x": value}, "x", optional=optional)) == ("x", value)
    assert parts_of(lambda: get_text({"x": value}, "x", "turns[1]", optional)) == ("turns[1].x", value)


@pytest.mark.parametrize("row", [{}, {"x": None}])
def test_get_text_required_and_absent_raises(row: dict[str, Any]) -> None:
    assert parts_of(lambda: get_text(row, "x")) == ("x", None)


def test_get_list_returns_the_list() -> None:
    assert get_list({"x": [1]}, "x") == [1]


@pytest.mark.parametrize("row", [{}, {"x": None}, {"x": []}, {"x": "a"}, {"x": {"a": 1}}, {"x": (1,)}])
def test_get_list_missing_empty_or_of_another_type_raises(row: dict[str, Any]) -> None:
    assert parts_of(lambda: get_list(row, "x")) == ("x", row.get("x"))


@pytest.mark.parametrize("value", [None, [], "a", 1])
def test_get_object_of_another_type_raises(value: object) -> None:
    assert get_object({"a": 1}, "x") == {"a": 1}
    assert parts_of(lambda: get_object(value, "x[2]")) == ("x[2]", value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(True, True), (False, False), (1, True), (0, False), (1.0, True), (0.0, False)],
        *[("true", True), ("False", False), ("1", True), ("0.0", False), ("yes", True), (" No ", False)],
    ],
)
def test_parse_bool_accepts_flags_of_json_and_tables(value: object, expected: bool) -> None:
    assert parse_bool(value, "x") is expected


@pytest.mark.parametrize("value", [2, -1, 0.5, float("nan"), "maybe", "2", "", None, [], [True]])
def test_parse_bool_of_another_value_raises(value: object) -> None:
    key, got = parts_of(lambda: parse_bool(value, "x"))
    assert key == "x"
    assert got is value


@pytest.mark.parametrize(("value", "expected"), [(3, 3.0), (0.5, 0.5), ("1e-3", 0.001), (" 2 ", 2.0)])
def test_parse_float_accepts_numbers_and_text_of_numbers(value: object, expected: float) -> None:
    number = parse_float(value, "x")
    assert (type(number), number) == (float, expected)


@pytest.mark.parametrize("value", [True, None, "", "a", [1], {}, pytest.param(10**400, id="huge")])
def test_parse_float_of_another_value_raises(value: object) -> None:
    assert parts_of(lambda: parse_float(value, "x")) == ("x", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "inf", "-Infinity"], ids=repr)
def test_parse_float_not_finite_raises(value: object) -> None:
    assert parts_of(lambda: parse_float(value, "x"))[0] == "x"


@pytest.mark.parametrize(
    ("text", "expected"), [('{"a": [1, null]}', {"a": [1, None]}), ("3", 3), ('"a"', "a")]
)
def test_parse_json_returns_the_value(text: str, expected: object) -> None:
    assert parse_json(text, "x", "an object") == expected


@pytest.mark.parametrize(
    "text",
    [
        *["", "{", "{'a': 1}", '{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}', "NaN", "[Infinity]"],
        *["9" * 5000, "[" * 100_000],
    ],
    ids=lambda text: text[:12],
)
def test_parse_json_invalid_text_raises(text: str) -> None:
    assert parts_of(lambda: parse_json(text, "x", "an object")) == ("x", text)
