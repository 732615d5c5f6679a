"""Build the objects that a config declares, inner components first.

Constructors receive objects and never dicts of configuration. The objects are cheap: reading files, loading weights and
starting processes are methods that the training setup calls in its own order.
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
    """Build the top level of a config that has passed ``check``.

    Args:
        config: plain data, as ``load_config`` returns it.
        root: class of the top level.

    Raises:
        ConfigError: a constructor rejects its arguments.
    """
    return _call("", root, config)


def build_component(key: str, spec: str | Mapping[str, Any]) -> Any:
    """Build one component, for instance ``build_component("template", "chatml")``."""
    return _build_component(key, key, spec)


def _call(path: str, target: Callable[..., T], values: Mapping[str, Any]) -> T:
    _, hints = signature_of(target)
    arguments = {
        key: _build_value(f"{path}.{key}" if path else key, key, value, hints.get(key))
        for key, value in values.items()
    }
    try:
        return target(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path or 'config'}: {error}", key=path or "config") from error


def _build_value(path: str, key: str, value: object, hint: object = None) -> Any:
    if key in NAMED_COLLECTIONS and isinstance(value, Mapping):
        return {
            name: _build_component(f"{path}.{name}", key, spec)
            for name, spec in value.items()
            if spec is not None
        }
    if key in REGISTRY_BY_KEY and key not in NAMED_COLLECTIONS and isinstance(value, (str, Mapping)):
        return _build_component(path, key, value)
    if isinstance(value, Mapping) and (section := dataclass_of(hint)) is not None:
        return _call(path, section, value)
    return value


def _build_component(path: str, key: str, spec: str | Mapping[str, Any]) -> Any:
    values = {"type": spec} if isinstance(spec, str) else dict(spec)
    target = resolve(key, values.pop("type"))
    if key not in PARTIAL_KEYS and inspect.isclass(target):
        return _call(path, target, values)
    arguments = {name: _build_value(f"{path}.{name}", name, value) for name, value in values.items()}
    return partial(target, **arguments)
