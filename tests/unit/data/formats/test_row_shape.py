"""What columns hold."""

from typing import Any

import pytest

from xft.data.formats.row_shape import RowShape

TURN = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "b"], "text"),
        ([1, 2.5], "number"),
        ([0, 1], "number"),
        (["true", "False"], "text"),
        ([None, ""], "empty"),
        ([True, None], "flag"),
        ([[TURN]], "openai"),
        ([str([TURN])], "openai"),
        ([[{"role": "human", "content": "Hi"}]], "sharegpt"),
        ([[{"from": "human", "value": "Hi"}]], "sharegpt"),
        ([[{"input": "a", "output": "b"}]], "xtuner"),
        ([TURN], "turn"),
        ([{"a": 1}], "object"),
        ([["a", "b"]], "list"),
        ([b"png"], "image"),
    ],
)
def test_kind_of_a_column(values: list[Any], kind: str) -> None:
    assert RowShape.of([{"a": value} for value in values]).kinds == {"a": kind}


def test_most_values_decide() -> None:
    rows: list[dict[str, Any]] = [{"a": "text", "b": True}] * 19 + [{"a": 3, "b": "maybe", "c": "odd"}]
    shape = RowShape.of(rows)
    assert (shape.kinds["a"], shape.flags, shape.rare) == ("text", {"b"}, {"c"})
    assert (shape.columns, shape.has("c"), shape.named(("c",))) == (["a", "b"], False, [])
    assert shape.named(("c",), rare=True) == ["c"]
    assert shape.with_rare().has("c")


def test_flags_are_true_or_false_in_every_row() -> None:
    rows: list[dict[str, Any]] = [
        {"a": "true", "b": 1, "c": False, "d": 0},
        {"a": "no", "b": None, "c": True, "d": 2},
    ]
    assert RowShape.of(rows).flags == {"a", "b", "c"}


def test_media_columns_are_images_and_empty_ones_are_not_filled() -> None:
    rows: list[dict[str, Any]] = [
        {"a": None, "images": ["x.png"]},
        {"a": "", "b": "text", "image": "y.png"},
    ]
    shape = RowShape.of(rows)
    assert shape.kinds == {"a": "empty", "images": "image", "b": "text", "image": "image"}
    assert not shape.has("a")
    assert str(RowShape.of([])) == "none"


def test_named_ignores_case_and_spaces() -> None:
    shape = RowShape({"System Prompt": "text", "system_prompt": "number", "other": "text"})
    assert shape.named(("system_prompt",)) == ["System Prompt"]
    assert shape.named(("system_prompt",), ("text", "number")) == ["System Prompt", "system_prompt"]
    assert shape.has("other", "system_prompt")
    assert not shape.has("other", "absent")
    assert shape.of_kind("text") == ["System Prompt", "other"]
