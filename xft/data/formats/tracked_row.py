"""Record which columns of a row, and which keys of its turns, a format reads.

A format takes a plain ``dict``; the row encoder passes a :class:`TrackedRow`, and :class:`ColumnUsage` collects what no
row of the data was read for. Copying a row, or iterating over it, counts as reading all of it.
"""

from __future__ import annotations

from _collections_abc import dict_items, dict_keys, dict_values
from collections import Counter
from collections.abc import Iterator
from typing import Any

from xft.data.formats.turn_keys import TURN_KEYS
from xft.types import Row

_EMPTY: tuple[Any, ...] = (None, "", [], {})
"""Values of a column that holds nothing in a row."""
MAX_COLUMNS = 1000
"""Names that are counted. Rows whose keys are values, such as dates, have more."""


class TrackedFields(dict[str, Any]):
    """A dict that adds the keys that are read to a set."""

    __slots__ = ("read",)

    def __init__(self, fields: Row, read: set[str]) -> None:
        super().__init__(fields)
        self.read = read

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: object = None) -> Any:
        """Return a value, and record the key."""
        self.read.add(key)
        return super().get(key, default)

    def pop(self, key: str, *default: object) -> Any:
        """Remove a value, and record the key."""
        self.read.add(key)
        return super().pop(key, *default)

    def _read_all(self) -> None:
        self.read.update(super().keys())

    def __iter__(self) -> Iterator[str]:
        self._read_all()
        return super().__iter__()

    def keys(self) -> dict_keys[str, Any]:
        """Return the keys, all of which count as read."""
        self._read_all()
        return super().keys()

    def items(self) -> dict_items[str, Any]:
        """Return keys and values, all of which count as read."""
        self._read_all()
        return super().items()

    def values(self) -> dict_values[str, Any]:
        """Return the values, all of which count as read."""
        self._read_all()
        return super().values()


class TrackedRow(TrackedFields):
    """A row that records the columns that are read, and the keys of their turns.

    Args:
        row: a row; not changed.

    Attributes:
        read: columns that were read.
        turns: column of a list of objects to the keys that were read in any of them. A list whose objects have no keys
            but ``TURN_KEYS`` is not tracked, because each recorded access takes time.
    """

    __slots__ = ("turns",)

    def __init__(self, row: Row) -> None:
        super().__init__(row, set())
        self.turns: dict[str, set[str]] = {}

    def __getitem__(self, key: str) -> Any:
        return self.track_turns(key, super().__getitem__(key))

    def get(self, key: str, default: object = None) -> Any:
        """Return a value, and record the key."""
        return self.track_turns(key, super().get(key, default))

    def track_turns(self, key: str, value: object) -> Any:
        """Return the value of a column. If it is a list of objects, their keys are recorded from now on."""
        if type(value) is not list or all(
            type(item) is not dict or item.keys() <= TURN_KEYS for item in value
        ):
            return value
        read = self.turns.setdefault(key, set())
        tracked = [TrackedFields(item, read) if type(item) is dict else item for item in value]
        self[key] = tracked
        return tracked


class ColumnUsage:
    """Columns and keys of turns that some rows have filled and no format has read.

    Attributes:
        read: what was read in any row.
        ignored: what was not read in some row, with the number of rows that have it filled.
    """

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.ignored: Counter[str] = Counter()

    def add(self, row: TrackedRow) -> None:
        """Add a row that a format has read."""
        self.read |= row.read
        unread = [key for key in dict.keys(row) - row.read if dict.get(row, key) not in _EMPTY]
        for column, read in row.turns.items():
            self.read.update([_turn_key(column, key) for key in read])
            turns = [turn for turn in dict.__getitem__(row, column) if isinstance(turn, TrackedFields)]
            filled = {
                key for turn in turns for key in dict.keys(turn) - read if dict.get(turn, key) not in _EMPTY
            }
            unread += [_turn_key(column, key) for key in filled]
        self._count(Counter(unread))

    def merge(self, other: ColumnUsage) -> None:
        """Add the rows of another chunk."""
        self.read |= other.read
        self._count(other.ignored)

    def _count(self, ignored: Counter[str]) -> None:
        for name, count in ignored.items():
            if name in self.ignored or len(self.ignored) < MAX_COLUMNS:
                self.ignored[name] += count

    def unread(self) -> dict[str, int]:
        """Return the columns and keys that were read in no row, with the number of rows that have them filled."""
        return {name: count for name, count in self.ignored.most_common() if name not in self.read}


def _turn_key(column: str, key: str) -> str:
    return f"{column}[].{key}"
