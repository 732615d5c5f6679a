"""Rewards: functions that score a sampled completion, given all columns of its row.

A reward is a function ``(completion, row) → float | None``. ``None`` means that the reward does not apply: it is omitted from
the weighted sum. A completion for which every reward is ``None`` is excluded from training. A reward that scores many
completions together, such as a model, is a :class:`BatchReward`. A custom reward needs no registration: set its dotted path,
``type='my_package.my_reward'``.
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
    """Reward that scores all completions of a step on this rank together."""

    @abstractmethod
    def score(self, completions: Sequence[Completion], rows: Sequence[Row]) -> Sequence[float | None]:
        """Return the reward of each completion; ``None`` if the reward does not apply to it.

        Args:
            completions: sampled completions.
            rows: row of each completion.
        """


@register("rewards", "contains")
def contains(completion: Completion, row: Row, column: str = "reference") -> float:
    """Return 1 if the completion contains the reference as whole words (scorer ``contains``), else 0.

    Args:
        completion: sampled completion.
        row: its row.
        column: column of the reference.

    Raises:
        DataError: the row has no column ``column``, or its value is ``None``.
    """
    return scorers.contains(completion, _reference(row, column))


@register("rewards", "exact")
def exact(completion: Completion, row: Row, column: str = "reference") -> float:
    """Return 1 if the completion equals the reference, else 0; case, quotation marks and a final period are ignored (scorer
    ``exact``).

    Args:
        completion: sampled completion.
        row: its row.
        column: column of the reference.

    Raises:
        DataError: the row has no column ``column``, or its value is ``None``.
    """
    return scorers.exact(completion, _reference(row, column))


@register("rewards", "f1")
def f1(completion: Completion, row: Row, column: str = "reference") -> float:
    """Return the harmonic mean of precision and recall of words (scorer ``f1``).

    Args:
        completion: sampled completion.
        row: its row.
        column: column of the reference.

    Raises:
        DataError: the row has no column ``column``, or its value is ``None``.
    """
    return scorers.f1(completion, _reference(row, column))


@register("rewards", "number")
def number(
    completion: Completion, row: Row, column: str = "reference", tolerance: NonNegative = 1e-6
) -> float:
    """Return 1 if the last number of the completion equals the last number of the reference, else 0.

    Args:
        completion: sampled completion.
        row: its row.
        column: column of the reference.
        tolerance: maximum difference, relative to the reference, or absolute for a reference between -1 and 1.

    Raises:
        DataError: the row has no column ``column``, or its value is ``None`` or contains no number.
    """
    expected = _last_number(_reference(row, column))
    if expected is None:
        raise DataError(key=column, got=row.get(column), expected="a number")
    given = _last_number(completion.text)
    close = given is not None and abs(given - expected) <= tolerance * max(1.0, abs(expected))
    return float(close)


@register("rewards", "regex")
def regex(completion: Completion, row: Row, pattern: str) -> float:
    """Return 1 if the pattern matches anywhere in the completion, else 0; ``^…$`` matches the whole completion.

    Args:
        completion: sampled completion.
        row: its row.
        pattern: regular expression of Python; ``.`` matches line breaks.

    Raises:
        re.error: the pattern is invalid.
    """
    return float(re.search(pattern, completion.text, re.DOTALL) is not None)


@register("rewards", "json_schema")
def json_schema(completion: Completion, row: Row, schema: dict[str, Any] | None = None) -> float:
    """Return 1 if the completion is JSON that satisfies a schema, 0.5 if it is other JSON, else 0.

    If the completion contains code blocks (``json`` or without a language), the first one is read.

    Args:
        completion: sampled completion.
        row: its row. If ``schema`` is ``None``, its column ``schema`` is used, an object or JSON text.
        schema: JSON Schema.

    Raises:
        DataError: neither the config nor the row has a schema.
        ConfigError: the schema is not a valid JSON Schema.
        ValueError: the text of the column ``schema`` is not JSON.
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

    Args:
        completion: sampled completion.
        row: its row, which is not used.
        max_tokens: maximum number of tokens without a penalty.
        buffer: number of tokens over which the reward falls to -1.
    """
    return -min(1.0, max(0.0, (completion.num_tokens - max_tokens) / buffer))


@register("rewards", "structured")
def structured(completion: Completion, row: Row, bullets: Count = 3, max_words: Count = 40) -> float:
    """Reward a short list of distinct bullets that the model ends: the scorer ``structured``, with partial credit.

    With ``b = min(1, distinct / bullets)``, the reward is the sum of ``0.3 * b`` for the bullets,
    ``0.2 * b * min(1, max_words / words)`` for brevity, ``0.2 * b`` if the model stopped, and ``0.3`` if it stopped with at
    least ``bullets`` distinct bullets and at most ``max_words`` words. Without bullets, the reward is 0.

    Args:
        completion: sampled completion.
        row: its row, which is not used.
        bullets: number of distinct bullets for full credit.
        max_words: maximum number of words for full credit.
    """
    distinct, words = scorers.measure_list(completion.text)
    fraction = min(distinct, bullets) / bullets
    brevity = min(1.0, max_words / max(words, 1))
    stopped = completion.finish_reason == "stop"
    perfect = distinct >= bullets and words <= max_words and stopped
    return 0.3 * fraction + 0.2 * brevity * fraction + 0.2 * stopped * fraction + 0.3 * perfect


def check_finite(value: object) -> float | None:
    """Return a reward as a float; ``None`` stays ``None``.

    Raises:
        ValueError: the value is neither a finite number nor ``None``.
        OverflowError: the value is an integer outside the range of a float.
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
