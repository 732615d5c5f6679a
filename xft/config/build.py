"""Build what a config declares: one recursion, inner components first.

Constructors receive objects, never dicts of configuration. The objects are cheap: reading
files, loading weights and starting processes is for the engine to ask of them, in its order.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from xft.config.overrides import NAMED_COLLECTIONS
from xft.config.signatures import dataclass_of, signature_of
from xft.errors import ConfigError
from xft.registry import PARTIAL_KEYS, REGISTRY_BY_KEY, resolve

T = TypeVar("T")


def build(config: Mapping[str, Any], root: Callable[..., T]) -> T:
    """Build the top level of a config that ``check`` has passed.

    Args:
        config: plain data, as ``load_config`` returns it.
        root: the class to make of it.

    Raises:
        ConfigError: a component refuses its arguments.
    """
    return _call("", root, config)


def build_component(slot: str, spec: str | Mapping[str, Any]) -> Any:
    """Build one component, for instance ``build_component("template", "chatml")``."""
    return _build_component(slot, slot, spec)


def _call(path: str, target: Callable[..., T], values: Mapping[str, Any]) -> T:
    _, hints = signature_of(target)
    arguments = {
        key: _build_value(f"{path}.{key}" if path else key, key, value, hints.get(key))
        for key, value in values.items()
    }
    try:
        return target(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path or 'config'}: {error}") from error


def _build_value(path: str, key: str, value: Any, hint: Any = None) -> Any:
    if key in NAMED_COLLECTIONS and isinstance(value, Mapping):
        return {
            name: _build_component(f"{path}.{name}", key, each)
            for name, each in value.items()
            if each is not None
        }
    if key in REGISTRY_BY_KEY and key not in NAMED_COLLECTIONS and isinstance(value, (str, Mapping)):
        return _build_component(path, key, value)
    if isinstance(value, Mapping) and (section := dataclass_of(hint)) is not None:
        return _call(path, section, value)
    return value


def _build_component(path: str, slot: str, spec: str | Mapping[str, Any]) -> Any:
    values = {"type": spec} if isinstance(spec, str) else dict(spec)
    target = resolve(slot, values.pop("type"))
    if slot not in PARTIAL_KEYS and inspect.isclass(target):
        return _call(path, target, values)
    return partial(
        target, **{key: _build_value(f"{path}.{key}", key, value) for key, value in values.items()}
    )
