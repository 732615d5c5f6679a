"""List the keys of a config, from the signatures and docstrings of what it builds."""

import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from xft.config.overrides import NAMED_COLLECTIONS
from xft.config.signatures import (
    argument_docs,
    dataclass_of,
    describe_type,
    named_parameters,
    signature_of,
)
from xft.registry import PARTIAL_KEYS, REGISTRY_BY_KEY, list_registered, resolve

REQUIRED = "required"
MAX_NAMES = 4
"""Longest list of components after a key."""


@dataclass(frozen=True)
class ConfigKey:
    """A key that a config may contain.

    Attributes:
        path: dotted path from the top level of the config.
        type: accepted type, in words.
        default: default value as Python text, ``REQUIRED``, or empty for a section.
        summary: one line of documentation; empty without one.
        components: registered names of the components that have the key; empty for all of a registry.
    """

    path: str
    type: str
    default: str
    summary: str
    components: tuple[str, ...] = ()

    def format(self, width: int) -> str:
        """Format the key as a line, its type and default in a column that begins after ``width`` characters."""
        value = f"{self.type} = {self.default}" if self.default not in ("", REQUIRED) else self.type
        value += f" ({REQUIRED})" if self.default == REQUIRED else ""
        names = ", ".join(self.components[:MAX_NAMES]) + (
            ", ..." if len(self.components) > MAX_NAMES else ""
        )
        text = f"{self.path:<{width}}  {value:<28}  {self.summary}".rstrip()
        return f"{text}  [{names}]" if names else text


def config_keys(root: Callable[..., Any]) -> list[ConfigKey]:
    """List all keys of a config whose top level is bound to ``root``.

    A registry that the top level has a key for is listed there only: the keys of ``data.template`` are those of
    ``template``.
    """
    top_level = {id(REGISTRY_BY_KEY[name]) for name in named_parameters(root) if name in REGISTRY_BY_KEY}
    return list(_walk("", root, False, top_level))


def _walk(
    path: str, target: Callable[..., Any], partial: bool, listed: Collection[int]
) -> Iterator[ConfigKey]:
    _, hints = signature_of(target)
    docs = argument_docs(target)
    for name, parameter in named_parameters(target).items():
        if partial and parameter.default is inspect.Parameter.empty:
            continue  # given by the caller, not by the config: rows, parameters
        full = f"{path}.{name}" if path else name
        hint = hints.get(name, Any)
        section = dataclass_of(hint)
        default = _describe_default(parameter.default)
        key = ConfigKey(full, describe_type(hint), default, docs.get(name, ""))
        if name in REGISTRY_BY_KEY:
            yield replace(
                key, type=_describe_registry(name), default="" if default != REQUIRED else default
            )
            if not path or id(REGISTRY_BY_KEY[name]) not in listed:
                yield from _walk_registry(full, name, {*listed, id(REGISTRY_BY_KEY[name])})
        elif section is not None:
            yield replace(key, type="section", default="")
            yield from _walk(full, section, False, listed)
        else:
            yield key


def _walk_registry(path: str, name: str, listed: Collection[int]) -> Iterator[ConfigKey]:
    """List the keys of every component of a registry, those that several share once."""
    merged: dict[ConfigKey, list[ConfigKey]] = {}
    having: dict[ConfigKey, list[str]] = {}
    names = list_registered(name)
    for registered in names:
        target = resolve(name, registered)
        where = f"{path}.{registered}" if name in NAMED_COLLECTIONS else path
        partial = name in PARTIAL_KEYS or not inspect.isclass(target)
        for key in _walk(where, target, partial, listed):
            same = replace(key, summary="")
            having.setdefault(same, []).append(registered)
            merged.setdefault(same, []).append(key)
    for same, keys in merged.items():
        shared = name in NAMED_COLLECTIONS or len(keys) == len(names) or same.components
        summary = max((key.summary for key in keys), key=len)
        yield replace(same, summary=summary, components=same.components if shared else tuple(having[same]))


def _describe_registry(name: str) -> str:
    return f"{'components' if name in NAMED_COLLECTIONS else 'component'} (xft list {plural(name)})"


def plural(key: str) -> str:
    """Return the plural of the key of a registry: ``formats``, ``strategies``."""
    if key.endswith("s") or key == "data":
        return key
    return f"{key[:-1]}ies" if key.endswith("y") else f"{key}s"


def _describe_default(value: object) -> str:
    if value is inspect.Parameter.empty:
        return REQUIRED
    if callable(value):
        return value.__name__ if inspect.isclass(value) or inspect.isroutine(value) else ""
    return "" if is_dataclass(value) or repr(value).startswith("<") else repr(value)
