"""Check a config without building anything.

Every dict with a ``type`` is bound to the signature of the component that it names. All unknown keys, missing keys and
values of the wrong type are collected, each with the nearest known names or the name of the key in xft.

Types are matched by :func:`xft.config.signatures.matches_type` and not by pydantic. pydantic's strict mode rejects a
list where a tuple is annotated, which is the only way to write one in JSON; its lax mode accepts ``"1"`` and ``True``
for an int. It also reports every branch of a union as an error of its own, and takes 0.2 s to import.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from xft.config import foreign_keys, foreign_names
from xft.config.overrides import NAMED_COLLECTIONS
from xft.config.signatures import (
    Component,
    accepts_any_key,
    dataclass_of,
    describe_type,
    matches_type,
    named_parameters,
    signature_of,
)
from xft.errors import ConfigError, did_you_mean
from xft.registry import PARTIAL_KEYS, REGISTRY_BY_KEY
from xft.registry import resolve as resolve_registered

COMPONENT = "dict(type=..., ...)"


Resolve = Callable[[str, str], Component]
"""Returns the component with a name in the registry of a key (:func:`xft.registry.resolve`)."""


def check(
    config: Mapping[str, Any],
    root: Callable[..., Any],
    where: str = "config",
    resolve: Resolve = resolve_registered,
) -> None:
    """Check a whole config.

    Args:
        config: plain data, as ``load_config`` returns it.
        root: class whose signature the top level must fit.
        where: name of the config in the message.
        resolve: finds components by their names.

    Raises:
        ConfigError: the config has mistakes. ``causes`` has an error for each of them.
    """
    mistakes = list(_Check(resolve).bind("", config, root, partial=False))
    if mistakes:
        # Why again: a component with a dotted path may have registered others, which were unknown before.
        mistakes = list(_Check(resolve).bind("", config, root, partial=False))
    if mistakes:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "1 mistake"
        message = f"{where}: {count}\n" + "\n".join(f"  {mistake}" for mistake in mistakes)
        raise ConfigError(message, key=mistakes[0].key, got=mistakes[0].got, causes=mistakes)


def _unknown_key(path: str, known: Collection[str]) -> ConfigError:
    fix = foreign_keys.advice(path) or did_you_mean(path.rpartition(".")[2], known)
    if "." not in path and not fix.startswith("in xft"):
        fix += "; names of helpers must begin with an underscore"
    return ConfigError(f"{path}: unknown key; {fix}", key=path, expected="a known key", fix=fix)


class _Check:
    """Binds values to the signatures of components.

    Args:
        resolve: finds components by their names.
    """

    def __init__(self, resolve: Resolve) -> None:
        self.resolve = resolve

    def bind(
        self, path: str, values: Mapping[str, Any], target: Component, partial: bool
    ) -> Iterator[ConfigError]:
        """Yield the mistakes in the arguments of a component."""
        _, hints = signature_of(target)
        parameters = named_parameters(target)
        for key, value in values.items():
            full = f"{path}.{key}" if path else key
            if key == "type" and path:
                continue
            if key in parameters or accepts_any_key(target):
                yield from self._check_value(full, key, value, hints.get(key, Any))
            else:
                yield _unknown_key(full, parameters)
        if not partial:
            for name, parameter in parameters.items():
                if parameter.default is inspect.Parameter.empty and name not in values:
                    full = f"{path}.{name}" if path else name
                    expected = describe_type(hints.get(name, Any))
                    yield ConfigError(f"{full}: missing; expected {expected}", key=full, expected=expected)

    def _check_value(self, path: str, key: str, value: object, hint: object) -> Iterator[ConfigError]:
        if key in NAMED_COLLECTIONS and isinstance(value, Mapping):
            for name, spec in value.items():
                if spec is not None:
                    others = [other for other in value if other != name]
                    yield from self._check_component(f"{path}.{name}", key, spec, others)
        elif key in REGISTRY_BY_KEY and key not in NAMED_COLLECTIONS and isinstance(value, (str, Mapping)):
            yield from self._check_component(path, key, value)
        elif isinstance(value, Mapping) and (section := dataclass_of(hint)) is not None:
            yield from self.bind(path, value, section, partial=False)
        elif not matches_type(value, hint):
            yield ConfigError(key=path, got=value, expected=describe_type(hint))

    def _check_component(
        self, path: str, key: str, value: object, neighbors: Collection[str] = ()
    ) -> Iterator[ConfigError]:
        spec = {"type": value} if isinstance(value, str) else value
        if not isinstance(spec, Mapping):
            yield ConfigError(key=path, got=value, expected=COMPONENT)
            return
        name = spec.get("type")
        if not isinstance(name, str):
            near = did_you_mean(path.rpartition(".")[2], neighbors)
            fix = foreign_keys.advice(path) or (near if near.startswith("did you mean") else "")
            message = f"{path}: 'type' is missing; expected {COMPONENT}" + (f"; {fix}" if fix else "")
            yield ConfigError(message, key=f"{path}.type", expected=COMPONENT, fix=fix)
            return
        try:
            target = self.resolve(key, name)
            signature_of(target)
        except (ConfigError, ValueError) as error:
            fix = foreign_names.advice(key, name)
            message = f"{path}.type: unknown name {name!r}; {fix}" if fix else f"{path}.type: {error}"
            yield ConfigError(message, key=f"{path}.type", got=name, fix=fix)
            return
        partial = key in PARTIAL_KEYS or not inspect.isclass(target)
        yield from self.bind(path, spec, target, partial)
