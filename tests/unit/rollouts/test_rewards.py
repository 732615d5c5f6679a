"""Rewards: values of hand-written completions."""

from typing import Any

import pytest

from xft.errors import ConfigError, DataError
from xft.models.generation import Completion
from xft.rollouts import rewards


def completion(text: str, stopped: bool = True, tokens: int = 5) -> Completion:
    return Completion(text, "stop" if stopped else "length", tokens)


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ("The sum is 12.", "12", 1),
        ("3 + 9 = 12", 12, 1),
        ("12 apples and 4 pears", "12", 0),
        ("1,200 euros", "1200", 1),
        ("-3.50", "-3.5", 1),
        ("1e3", "1000", 1),
        ("none", "12", 0),
        ("", "12", 0),
        ("0.3333333", "0.33333333", 1),
    ],
)
def test_number_compares_the_last_number(text: str, reference: Any, value: float) -> None:
    assert rewards.number(completion(text), {"reference": reference}) == value


def test_number_refuses_a_reference_without_a_number() -> None:
    with pytest.raises(DataError) as caught:
        rewards.number(completion("1"), {"reference": "many"})
    assert caught.value.key == "reference"


def test_a_missing_column_is_named_with_the_columns_that_exist() -> None:
    with pytest.raises(DataError) as caught:
        rewards.exact(completion("a"), {"prompt": "b", "answer": "a"})
    assert caught.value.key == "reference"
    assert "answer" in caught.value.expected


def test_references_are_read_from_the_column_of_the_config() -> None:
    row = {"answer": "Paris"}
    assert rewards.exact(completion("paris."), row, column="answer") == 1
    assert rewards.contains(completion("It is Paris"), row, column="answer") == 1
    assert rewards.f1(completion("Paris, France"), row, column="answer") == pytest.approx(2 / 3)


def test_regex_matches_across_lines() -> None:
    assert rewards.regex(completion("<a>\n1\n</a>"), {}, r"^<a>.*</a>$") == 1
    assert rewards.regex(completion("x <a>1</a>"), {}, r"^<a>.*</a>$") == 0


SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"name": "Ann"}', 1.0),
        ('```json\n{"name": "Ann"}\n```', 1.0),
        ('{"age": 3}', 0.5),
        ('{"name": 3}', 0.5),
        ('{"name": "Ann"', 0.0),
        ("[" * 100_000, 0.0),
    ],
)
def test_json_schema_rewards_json_and_its_schema(text: str, value: float) -> None:
    assert rewards.json_schema(completion(text), {}, SCHEMA) == value


def test_json_schema_of_the_row_may_be_text() -> None:
    row = {"schema": '{"type": "array"}'}
    assert rewards.json_schema(completion("[1]"), row) == 1
    with pytest.raises(DataError):
        rewards.json_schema(completion("[1]"), {})
    with pytest.raises(ConfigError):
        rewards.json_schema(completion("[1]"), {}, {"type": "nothing"})


def test_length_falls_linearly_after_the_limit() -> None:
    values = [rewards.length(completion("", tokens=count), {}, 10, 4) for count in (3, 10, 12, 14, 90)]
    assert values == [0, 0, -0.5, -1, -1]


THREE = "- Drink water\n- Sleep well\n- Walk"


@pytest.mark.parametrize(
    ("text", "stopped", "value"),
    [
        (THREE, True, 1.0),
        (THREE, False, 0.5),
        ("- Drink water\n- Sleep well", True, 0.7 * 2 / 3),
        ("- Learn\n- Learn\n- learn", True, 0.7 / 3),
        ("Drink water, sleep well and walk.", True, 0.0),
        ("", True, 0.0),
        ("- a\n- b\n- c\n" + "word " * 77, True, 0.3 + 0.2 * 40 / 80 + 0.2),
    ],
)
def test_structured_gives_partial_credit(text: str, stopped: bool, value: float) -> None:
    assert rewards.structured(completion(text, stopped), {}) == pytest.approx(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", [1.0], {}])
def test_check_finite_refuses_what_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match="returned"):
        rewards.check_finite(value)


@pytest.mark.parametrize(("value", "result"), [(None, None), (True, 1.0), (2, 2.0), (0.5, 0.5)])
def test_check_finite_takes_numbers(value: Any, result: float | None) -> None:
    assert rewards.check_finite(value) == result
