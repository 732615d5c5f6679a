"""Rewards: functions that score a sampled completion, given all columns of its row.

A reward is a function ``(completion, row) → float``; ``None`` leaves the completion out. One that scores many
completions together, such as a model, is a :class:`BatchReward`. A reward of your own needs no registration: give its
dotted path, ``type='my_package.my_reward'``.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import jsonschema

from xft.errors import ConfigError, DataError
from xft.evaluation import scorers
from xft.models.generation import Completion
from xft.registry import register
from xft.types import Row
from xft.types.ranges import Count, NonNegative

RewardFunction = Callable[[Completion, Row], float | None]

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*)?\.?\d+(?:[eE][-+]?\d+)?")
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)


class BatchReward(ABC):
    """A reward that scores all completions of a step together."""

    @abstractmethod
    def score(self, completions: Sequence[Completion], rows: Sequence[Row]) -> Sequence[float | None]:
        """Return a reward for each completion; ``None`` leaves it out.

        Args:
            completions: sampled completions.
            rows: the row of each completion.
        """


@register("rewards", "contains")
def contains(completion: Completion, row: Row, column: str = "reference") -> float:
    """Return 1 if the completion contains the reference as whole words (scorer ``contains``)."""
    return scorers.contains(completion, _reference(row, column))


@register("rewards", "exact")
def exact(completion: Completion, row: Row, column: str = "reference") -> float:
    """Return 1 if the completion equals the reference, except for case and a final full stop (scorer ``exact``)."""
    return scorers.exact(completion, _reference(row, column))


@register("rewards", "f1")
def f1(completion: Completion, row: Row, column: str = "reference") -> float:
    """Return the harmonic mean of precision and recall of words (scorer ``f1``)."""
    return scorers.f1(completion, _reference(row, column))


@register("rewards", "number")
def number(
    completion: Completion, row: Row, column: str = "reference", tolerance: NonNegative = 1e-6
) -> float:
    """Return 1 if the last number of the completion equals the last number of the reference.

    Args:
        completion: sampled completion.
        row: its row.
        column: column of the reference.
        tolerance: largest difference, relative to the reference, or absolute for a reference below 1.
    """
    expected = _last_number(_reference(row, column))
    if expected is None:
        raise DataError(key=column, got=row.get(column), expected="a number")
    given = _last_number(completion.text)
    close = given is not None and abs(given - expected) <= tolerance * max(1.0, abs(expected))
    return float(close)


@register("rewards", "regex")
def regex(completion: Completion, row: Row, pattern: str) -> float:
    """Return 1 if the pattern matches somewhere in the completion; ``^…$`` requires all of it.

    Args:
        completion: sampled completion.
        row: its row.
        pattern: regular expression of Python; ``.`` matches line breaks.
    """
    return float(re.search(pattern, completion.text, re.DOTALL) is not None)


@register("rewards", "json_schema")
def json_schema(completion: Completion, row: Row, schema: dict[str, Any] | None = None) -> float:
    """Return 1 if the completion is JSON that satisfies a schema, 0.5 if it is other JSON.

    JSON in a code block counts too.

    Args:
        completion: sampled completion.
        row: its row, whose column ``schema`` is used if ``schema`` is ``None``.
        schema: JSON Schema.
    """
    rules = row.get("schema") if schema is None else schema
    rules = json.loads(rules) if isinstance(rules, str) else rules
    if not isinstance(rules, dict):
        raise DataError(key="schema", got=rules, expected="a JSON Schema in the config or in the row")
    validator = jsonschema.validators.validator_for(rules)
    try:
        validator.check_schema(rules)
    except jsonschema.SchemaError as error:
        raise ConfigError(
            key="rewards.json_schema.schema", got=error.message, expected="a JSON Schema"
        ) from None
    fence = _FENCE.search(completion.text)
    try:
        value = json.loads(fence[1] if fence else completion.text)
    except (ValueError, RecursionError):
        return 0.0
    return 1.0 if validator(rules).is_valid(value) else 0.5


@register("rewards", "length")
def length(completion: Completion, row: Row, max_tokens: Count = 256, buffer: Count = 64) -> float:
    """Penalize long completions: 0 up to ``max_tokens``, falling to -1 after ``buffer`` more tokens.

    Soft overlong punishment of DAPO (Yu et al. 2025, https://arxiv.org/abs/2503.14476, eq. 13).
    """
    return -min(1.0, max(0.0, (completion.num_tokens - max_tokens) / buffer))


@register("rewards", "structured")
def structured(completion: Completion, row: Row, bullets: Count = 3, max_words: Count = 40) -> float:
    """Reward a short list of distinct bullets that the model ends: the scorer ``structured``, with partial credit.

    With :math:`b` the share of the distinct bullets, 1 at most: :math:`0.3 b` for the bullets, :math:`0.2 b` for
    brevity, :math:`0.2 b` for stopping, and 0.3 if all is right. Without bullets the reward is 0, so that an empty
    answer earns nothing.

    Args:
        completion: sampled completion.
        row: its row.
        bullets: number of bullets.
        max_words: largest number of words.
    """
    distinct, words = scorers.measure_list(completion.text)
    share = min(distinct, bullets) / bullets
    brevity = min(1.0, max_words / max(words, 1))
    stopped = completion.finish_reason == "stop"
    perfect = distinct >= bullets and words <= max_words and stopped
    return 0.3 * share + 0.2 * brevity * share + 0.2 * stopped * share + 0.3 * perfect


def check_finite(value: object) -> float | None:
    """Return a reward as a float.

    Raises:
        ValueError: the value is neither a finite number nor ``None``.
    """
    if value is None:
        return None
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise ValueError(f"returned {value!r:.60}; expected a number or None")
    result = float(value)
    if not math.isfinite(result):
        raise ValueError(f"returned {result}; expected a finite number or None")
    return result


def _reference(row: Row, column: str) -> str:
    value = row.get(column)
    if value is None:
        raise DataError(
            key=column, got=None, expected=f"a column with the reference; the row has {', '.join(row)}", fix="set column="
        )  # fmt: skip
    return str(value)


def _last_number(text: str) -> float | None:
    matches = _NUMBER.findall(text)
    return float(matches[-1].replace(",", "")) if matches else None
