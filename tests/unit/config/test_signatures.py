"""Reading signatures, annotations and docstrings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Interval

from xft.config.signatures import (
    accepts_any_key,
    argument_docs,
    dataclass_of,
    describe_type,
    first_sentence,
    matches_type,
    named_parameters,
    summary_of,
)


@dataclass
class Base:
    """A base.

    Args:
        size: number of ``rows``,
            e.g. 3. Not shown.
        low, high: bounds of :class:`a.b.Range`.
    """

    size: int = 1


class Child(Base):
    """A child. More.

    Args:
        extra: of its own:
            with a colon.

    Raises:
        size: not an argument.
    """

    def __init__(self, extra: int, *rest: int, **options: int) -> None:
        """Not read."""


def test_argument_docs_are_first_sentences_and_inherited() -> None:
    assert argument_docs(Child) == {
        "size": "number of rows, e.g. 3",
        "low": "bounds of a.b.Range",
        "high": "bounds of a.b.Range",
        "extra": "of its own: with a colon",
    }


def test_named_parameters_leave_out_variadic_ones() -> None:
    assert list(named_parameters(Child)) == ["extra"]
    assert list(named_parameters(lambda row, /, role: role)) == ["role"]
    assert accepts_any_key(Child)
    assert not accepts_any_key(Base)


def test_summary_is_the_first_sentence() -> None:
    assert summary_of(Child) == "A child"
    assert first_sentence("One (Hu et al. 2021): two; three. Four.") == "One (Hu et al. 2021): two; three"


@pytest.mark.parametrize(("hint", "section"), [(Base, Base), (Base | None, Base), (int, None), (Any, None)])
def test_dataclass_of_finds_the_section_in_an_annotation(hint: Any, section: type | None) -> None:
    assert dataclass_of(hint) is section


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int | None, "int or None"),
        (Literal["a", "b"], "one of 'a', 'b'"),
        (Mapping[str, float], "Mapping[str, float]"),
        (list[str], "list[str]"),
        (Any, "a value"),
    ],
)
def test_types_are_described_in_words(hint: Any, text: str) -> None:
    assert describe_type(hint) == text


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        (1, bool, False),
        (None, int | None, True),
        (None, int, False),
        ("a", int | str, True),
        (1.5, int | str, False),
        ([1, 2], list[int], True),
        ([1, "2"], list[int], False),
        ((1, 2), list[int], True),
        ("ab", list[str], False),
        ({"a": 1}, dict[str, int], True),
        ([("a", 1)], dict[str, int], False),
        ("auto", Literal["auto", "none"], True),
        ("aut", Literal["auto", "none"], False),
        (object(), Any, True),
    ],
)
def test_plain_values_are_judged_by_their_annotation(value: Any, hint: Any, fits: bool) -> None:
    assert matches_type(value, hint) is fits


@pytest.mark.parametrize(
    ("hint", "text", "inside", "outside"),
    [
        (
            Annotated[int, Interval(ge=1, le=10**9)] | None,
            "int in [1, 1e9] or None",
            [1, None],
            [0, 1.0, True],
        ),
        (Annotated[float, Interval(gt=0, lt=1)], "float in (0, 1)", [0.5], [0, 1, float("nan"), "0.5"]),
        (Annotated[int, Ge(8)], "int in [8, inf)", [8, 10**30], [7]),
        (Annotated[int, Interval(lt=2**32)], "int in (-inf, 4294967296)", [-1], [2**32]),
        (Mapping[str, Annotated[float, Ge(0)]], "Mapping[str, float in [0, inf)]", [{"a": 0}], [{"a": -1}]),
        (float, "float", [10**300], [10**400]),
    ],
)
def test_limits_of_a_number_are_described_and_checked(
    hint: object, text: str, inside: list[object], outside: list[object]
) -> None:
    assert describe_type(hint) == text
    assert [matches_type(value, hint) for value in inside] == [True] * len(inside)
    assert [matches_type(value, hint) for value in outside] == [False] * len(outside)
