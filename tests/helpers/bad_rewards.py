"""Rewards and environments that go wrong, named by their dotted path in configs of tests."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from xft.models.generation import Completion
from xft.rollouts import BatchReward
from xft.types import Message, Row

not_callable = 3


class Unprintable(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def raises(completion: Completion, row: Row) -> float:
    """Read a column that no row has."""
    return float(row["answer"])


def raises_lines(completion: Completion, row: Row) -> float:
    """Raise an error of several lines with control characters."""
    raise ValueError("first\nsecond \x1b[31mred")


def raises_unprintable(completion: Completion, row: Row) -> float:
    """Raise an error without a text."""
    raise Unprintable


def exits(completion: Completion, row: Row) -> float:
    """End the process."""
    raise SystemExit(0)


def interrupts(completion: Completion, row: Row) -> float:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


def recurses(completion: Completion, row: Row) -> float:
    """Call itself."""
    return recurses(completion, row)


def takes_long(completion: Completion, row: Row) -> float:
    """Sleep longer than the limit of the test."""
    time.sleep(2)
    return 1.0


def forgets_to_return(completion: Completion, row: Row) -> None:
    """Compute something, and return nothing."""


def returns(completion: Completion, row: Row, value: Any) -> Any:
    """Return a value of the config."""
    return value


def returns_nan(completion: Completion, row: Row) -> float:
    """Return NaN."""
    return float("nan")


def returns_complex(completion: Completion, row: Row) -> complex:
    """Return a complex number."""
    return 1j


async def is_async(completion: Completion, row: Row) -> float:
    """Return a coroutine."""
    return 1.0


def is_generator(completion: Completion, row: Row) -> Any:
    """Return a generator."""
    yield 1.0


def one_argument(completion: Completion) -> float:
    """Take no row."""
    return 1.0


class Batch(BatchReward):
    """Return a value of the config for all completions."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def score(self, completions: Sequence[Completion], rows: Sequence[Row]) -> Any:
        """Return the value."""
        return self.value


class NoScore(BatchReward):
    """Has no method ``score``."""


def failing_step(messages: Sequence[Message], row: Row) -> list[Message] | None:
    """Divide by zero."""
    raise ZeroDivisionError("division by zero")


def hanging_step(messages: Sequence[Message], row: Row) -> list[Message] | None:
    """Wait for what never happens."""
    threading.Event().wait()
    return None
