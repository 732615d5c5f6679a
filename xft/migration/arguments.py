"""Keys and values of the other tool. Each key that is read is remembered: it must end in an entry of the draft."""

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from xft.errors import ConfigError
from xft.migration.draft import Draft
from xft.migration.python_values import Name
from xft.migration.values import switch

T = TypeVar("T")
COMPUTED = "is computed by code, which is not run: set the value"
OFF = "off"


class Arguments:
    """A config of the other tool, or a section of it.

    A key without a value (``null``, or an empty text) is one that the config does not set.

    Args:
        draft: the config in the making, which gets the entries.
        values: keys and values.
        prefix: beginning of the full names of the keys, ``model.llm.``.
        names: full names of keys that the file has elsewhere.
    """

    def __init__(
        self,
        draft: Draft,
        values: Mapping[str, object],
        prefix: str = "",
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.draft = draft
        self._prefix, self._names = prefix, names or {}
        self._values = {key: value for key, value in values.items() if value is not None and value != ""}
        draft.keys.update(dict.fromkeys(map(self.full_name, self._values)))

    def __contains__(self, name: object) -> bool:
        return name in self._values

    @property
    def unread(self) -> list[str]:
        """Keys that were not read yet."""
        return list(self._values)

    def full_name(self, key: str) -> str:
        """Return the name of a key in the file."""
        return self._names.get(key, self._prefix + key)

    def find(self, *names: str) -> str:
        """Return the full name of the first of some keys that is there, or else of the first."""
        return self.full_name(next((name for name in names if name in self._values), names[0]))

    def peek(self, name: str) -> object:
        """Return the value of a key without reading it; ``None`` without one."""
        return self._values.get(name)

    def set(self, name: str, value: object) -> None:
        """Set a value that follows from other keys, and needs no entry."""
        self._values[name] = value

    def pop(self, *names: str) -> object:
        """Read the value of the first of some keys that is there; ``None`` if none is."""
        present = {name: self._values.pop(name) for name in names if name in self._values}
        first, *others = [*present, ""]
        self.draft.read.update(self.full_name(name) for name in present)
        for name in filter(None, others):
            self.draft.note(self.full_name(name), f"{self.full_name(first)} has priority")
        return present.get(first)

    def read(self, convert: Callable[[object], T], *names: str) -> T | None:
        """Read a value of a type; ``None`` if it is not set, or is computed by code.

        Raises:
            ConfigError: the value has another type.
        """
        key, value = self.find(*names), self.pop(*names)
        if isinstance(value, Name):
            self.draft.miss(key, COMPUTED)
            return None
        return None if value is None else self.convert(convert, key, value)

    def convert(self, convert: Callable[[object], T], key: str, value: object) -> T:
        """Convert a value that was read.

        Args:
            convert: a function of :mod:`xft.migration.values`.
            key: full name, for the message.
            value: the value.

        Raises:
            ConfigError: the value has another type.
        """
        try:
            return convert(value)
        except ValueError as error:
            raise ConfigError(key=key, got=value, expected=str(error)) from error

    def take(self, path: str, convert: Callable[[object], T], *names: str) -> T | None:
        """Read a value, set it in the draft, and record that it is taken over."""
        key = self.find(*names)
        value = self.read(convert, *names)
        if value is not None:
            self.draft.take(key, path, value)
        return value

    def is_on(self, *names: str) -> bool:
        """Read a switch. If it is off, this is recorded; if it is on, the caller records what follows."""
        key = self.find(*names)
        value = self.read(switch, *names)
        if value is False:
            self.draft.note(key, OFF)
        return bool(value)

    def note(self, text: str, *names: str) -> None:
        """Record that some keys are taken over without a value of their own, as far as they are there."""
        for name in names:
            if self.pop(name) is not None:
                self.draft.note(self.full_name(name), text)

    def miss(self, why: str, *names: str) -> None:
        """Record some keys without counterpart, as far as they are there."""
        for name in names:
            if self.pop(name) is not None:
                self.draft.miss(self.full_name(name), why)

    def change(self, how: str, *names: str) -> None:
        """Record some keys whose meaning differs, as far as they are there."""
        for name in names:
            if self.pop(name) is not None:
                self.draft.change(self.full_name(name), how)

    def section(self, *names: str) -> "Arguments":
        """Read a section; its keys need entries of their own. A section that is not there is empty.

        Raises:
            ConfigError: the value is no section.
        """
        key, value = self.find(*names), self.pop(*names)
        return Arguments(self.draft, {}, f"{key}.") if value is None else self._open(key, value)

    def sections(self, *names: str) -> "list[Arguments]":
        """Read a list of sections; a single section is a list of one.

        Raises:
            ConfigError: the value is no section, and no list of sections.
        """
        key, value = self.find(*names), self.pop(*names)
        if value is None:
            return []
        items = value if isinstance(value, list) else [value]
        self.draft.keys.pop(key, None)
        return [self._open(f"{key}[{index}]", item) for index, item in enumerate(items)]

    def _open(self, key: str, value: object) -> "Arguments":
        if isinstance(value, Name):
            self.draft.miss(key, COMPUTED)
            return Arguments(self.draft, {}, f"{key}.")
        content = self.convert(_mapping, key, value)
        if content:
            self.draft.keys.pop(key, None)
        elif key in self.draft.keys:
            self.draft.note(key, "empty")
        return Arguments(self.draft, content, f"{key}.")


def _mapping(value: object) -> dict[str, object]:
    """Return keys and values; a text of JSON is read, as transformers does."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError("JSON with keys and values") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("keys and values")
    return value
