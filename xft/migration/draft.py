"""A config of xft in the making, and what became of each key of the other tool."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from xft.config.signatures import accepts_any_key, named_parameters
from xft.errors import ConfigError, short_repr
from xft.registry import resolve
from xft.run_config.config import SECTION_ORDER
from xft.utils.presets import runtime_values

TAKEN, CHANGED, MISSING = "taken over", "different", "without counterpart"
Keys = str | tuple[str, ...]
NO_COUNTERPART = "xft has no such key"
_TYPES = {"objective": "sft", "optimizer": "adamw", "lr_scheduler": "cosine"}
"""Components of sections that a draft does not have yet."""


@dataclass(frozen=True)
class Entry:
    """What became of a key.

    Attributes:
        keys: keys of the other tool.
        kind: ``TAKEN``, ``CHANGED`` or ``MISSING``.
        text: key of xft, how it differs, or why there is none.
        path: key of xft that was set; empty if there is none.
    """

    keys: tuple[str, ...]
    kind: str
    text: str
    path: str = ""

    @property
    def key(self) -> str:
        """The keys as one text."""
        return ", ".join(self.keys)


@dataclass
class Draft:
    """A config of xft in the making.

    Attributes:
        tool: name of the other tool.
        values: sections of the config.
        entries: what became of each key, in the order of reading.
        keys: full names of the keys in the file of the other tool.
        read: those that the importer has read.
        unexplained: those that were read, and have no entry: an error of the importer, which tests look for.
    """

    tool: str
    values: dict[str, Any] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    keys: dict[str, None] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    unexplained: list[str] = field(default_factory=list)

    @property
    def by_default(self) -> str:
        """Where a value comes from that the file does not have."""
        return f"the default of {self.tool}"

    def get(self, path: str) -> Any:
        """Return the value at a dotted path; ``None`` if there is none."""
        value: object = self.values
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def has(self, path: str) -> bool:
        """Return whether there is a value at a dotted path, which may be ``None``."""
        parent, _, last = path.rpartition(".")
        holder = self.get(parent) if parent else self.values
        return isinstance(holder, dict) and last in holder

    def set(self, path: str, value: object) -> None:
        """Set the value at a dotted path. A section that names its component only becomes a dict."""
        *parents, last = path.split(".")
        holder = self.values
        for part in parents:
            if not isinstance(holder.get(part), dict):
                holder[part] = {"type": holder[part]} if isinstance(holder.get(part), str) else {}
            holder = holder[part]
        holder[last] = value

    def accepts(self, path: str) -> bool:
        """Return whether the component of a section has a key: ``optimizer.betas`` for AdamW, but not for Muon."""
        section, _, key = path.partition(".")
        if section == "adapter" and self.get("adapter") is None:
            return False
        kind = self.get(f"{section}.type") or _TYPES.get(section)
        if kind is None or key in ("", "type"):
            return True
        component = resolve(section, kind)
        return accepts_any_key(component) or key in named_parameters(component)

    def take(self, keys: Keys, path: str, value: object, why: str = "") -> None:
        """Set a value that has the same meaning."""
        self.set(path, value)
        self._add(keys, TAKEN, f"{path} = {short_repr(value)}" + (f" ({why})" if why else ""), path)

    def default(self, key: str, path: str, value: object, why: str = "") -> None:
        """Set a value that the other tool has by default, if nothing has set it yet."""
        if not self.has(path):
            self.take(key, path, value, self.by_default + (f"; {why}" if why else ""))

    def note(self, keys: Keys, text: str) -> None:
        """Record that a key is taken over without a value of its own."""
        self._add(keys, TAKEN, text)

    def change(self, keys: Keys, how: str, path: str = "", value: object = None) -> None:
        """Record a key whose meaning differs, and set a value if there is a path."""
        if path:
            self.set(path, value)
        self._add(keys, CHANGED, how, path)

    def miss(self, keys: Keys, why: str = NO_COUNTERPART) -> None:
        """Record a key without counterpart."""
        self._add(keys, MISSING, why)

    def _add(self, keys: Keys, kind: str, text: str, path: str = "") -> None:
        self.entries.append(Entry((keys,) if isinstance(keys, str) else keys, kind, text, path))

    def refuse(self, key: str, got: object, expected: str) -> NoReturn:
        """End the import: the run itself has no counterpart.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            key=key, got=got, expected=expected, fix=f"the rest of {self.tool} has no counterpart in xft"
        )

    def close(self, silent: Collection[str]) -> None:
        """Record every key that has no entry yet as one without counterpart.

        Args:
            silent: keys that only print, or say what xft does anyway: they need no entry.
        """
        explained = {key for entry in self.entries for key in entry.keys}
        for key in self.keys:
            if key in explained or key.rpartition(".")[2] in silent:
                continue
            if key in self.read:
                self.unexplained.append(key)
            self.miss(key)

    def finish(self) -> dict[str, Any]:
        """Return the config with the hooks and loggers that every run has, in the order of other configs."""
        for key, value in runtime_values().items():
            if not isinstance(value, dict):
                self.values.setdefault(key, value)
                continue
            options = self.values.get(key, {})
            self.values[key] = {
                name: {"type": name, **value.get(name, {}), **options.get(name, {})}
                for name in (*value, *(name for name in options if name not in value))
            }
        self.values.setdefault("template", "auto")
        return {key: self.values[key] for key in SECTION_ORDER if key in self.values}

    def table(self) -> Iterator[str]:
        """Yield the lines of the report: taken over, different, without counterpart."""
        width = max((len(entry.key) for entry in self.entries), default=0)
        for kind in (TAKEN, CHANGED, MISSING):
            entries = [entry for entry in self.entries if entry.kind == kind]
            if entries:
                yield f"{kind}:"
                yield from (f"  {entry.key:<{width}}  {entry.text}" for entry in entries)
