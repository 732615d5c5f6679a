"""What the columns of some rows hold: texts, turns, flags, images."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from xft.data.formats.getters import parse_bool, parse_list
from xft.data.formats.messages import OPENAI
from xft.data.formats.turn_keys import MEDIA_KEYS
from xft.errors import MAX_NAMES, DataError
from xft.types import Row
from xft.utils.console import shorten

_EMPTY: tuple[object, ...] = (None, "", [], {})
_TURN_KEYS = (
    ("openai", {"role", "content"}),
    ("openai", {"role", "tool_calls"}),
    ("sharegpt", {"from", "value"}),
    ("xtuner", {"input", "output"}),
)
TURNS = ("openai", "sharegpt", "xtuner")
"""Kinds of columns that hold turns, each the name of a format."""


MIN_FRACTION = 0.5
"""Fraction of the rows that must have a column filled, or the column is rare."""
MIN_FLAGS = 0.9
"""Fraction of the filled values of a column of flags that are true or false."""


@dataclass(frozen=True)
class RowShape:
    """The columns of some rows.

    Attributes:
        kinds: column to what it holds: one of ``TURNS``, ``text``, ``flag``, ``number``, ``turn``, ``image``, ``list``,
            ``object``, or ``empty`` if no row has it filled. Most of the filled values decide.
        flags: columns whose values are true or false, also as text or number.
        rare: columns that few rows have filled. They decide nothing, but may be read next to those that do.
    """

    kinds: dict[str, str]
    flags: frozenset[str] = frozenset()
    rare: frozenset[str] = frozenset()

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "RowShape":
        """Return the shape of some rows."""
        columns = dict.fromkeys(name for row in rows for name in dict.keys(row))
        values = {name: [dict.get(row, name) for row in rows] for name in columns}
        filled = {name: [item for item in items if item not in _EMPTY] for name, items in values.items()}
        flags = [
            name
            for name, items in filled.items()
            if items and sum(map(_is_flag, items)) >= MIN_FLAGS * len(items)
        ]
        rare = [name for name, items in filled.items() if len(items) < MIN_FRACTION * len(rows)]
        kinds = {name: _column_kind(name, items) for name, items in filled.items()}
        return cls(kinds, frozenset(flags), frozenset(rare))

    def with_rare(self) -> "RowShape":
        """Return the same shape, in which rare columns count like others."""
        return replace(self, rare=frozenset())

    @property
    def columns(self) -> list[str]:
        """The columns that are not rare."""
        return [name for name in self.kinds if name not in self.rare]

    def has(self, *names: str) -> bool:
        """Return whether all these columns are filled, and not rare."""
        return all(self.kinds.get(name, "empty") != "empty" and name not in self.rare for name in names)

    def named(
        self, names: Iterable[str], kinds: Collection[str] = ("text",), rare: bool = False
    ) -> list[str]:
        """Return the columns with one of these names that hold one of these kinds.

        Args:
            names: names in lower case with underscores; columns may have any case, and spaces or hyphens.
            kinds: what the columns hold.
            rare: whether rare columns count.
        """
        accepted = set(names)
        return [
            column
            for column in self.of_kind(*kinds, rare=rare)
            if re.sub("[ -]+", "_", column.strip().lower()) in accepted
        ]

    def of_kind(self, *kinds: str, rare: bool = False) -> list[str]:
        """Return the columns that hold one of these kinds; rare ones too if ``rare``."""
        return [
            column
            for column, kind in self.kinds.items()
            if kind in kinds and (rare or column not in self.rare)
        ]

    def __str__(self) -> str:
        shown = [f"{shorten(repr(name), 60)} ({kind})" for name, kind in self.kinds.items()]
        more = [f"and {len(shown) - MAX_NAMES:,} more"] if len(shown) > MAX_NAMES else []
        return ", ".join(shown[:MAX_NAMES] + more) or "none"


def _column_kind(name: str, values: Sequence[object]) -> str:
    if not values:
        return "empty"
    return "image" if name in MEDIA_KEYS else Counter(map(_value_kind, values)).most_common(1)[0][0]


def _value_kind(value: object) -> str:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return _turns_kind(_parsed(value)) or "text"
    if isinstance(value, list):
        return _turns_kind(value) or "list"
    if isinstance(value, dict):
        return "turn" if _turns_kind([value]) else "object"
    return "image" if isinstance(value, bytes) else "object"


def _turns_kind(value: object) -> str | None:
    """Return which turns a list holds; ``None`` for another value."""
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return None
    for kind, keys in _TURN_KEYS:
        if all(keys <= turn.keys() for turn in value[:1]):
            is_known = all(turn.get("role") in tuple(OPENAI.roles) for turn in value)
            return "sharegpt" if kind == "openai" and not is_known else kind
    return None


def _parsed(text: str) -> object:
    if text.lstrip().startswith("[{"):
        with suppress(DataError):
            return parse_list(text, "", "turns")
    return None


def _is_flag(value: object) -> bool:
    try:
        parse_bool(value, "")
    except DataError:
        return False
    return True
