"""One process on one device."""

from collections.abc import Sequence
from typing import TypeVar

from xft.strategies.base import Strategy

T = TypeVar("T")


class SingleDevice(Strategy):
    """One process on one device; a collective returns what it gets."""

    def reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Return the values."""
        return list(values)

    def gather(self, value: T) -> list[T]:
        """Return the value in a list."""
        return [value]

    def barrier(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
