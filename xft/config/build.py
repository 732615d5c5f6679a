"""Build what a config declares: one recursion, inner components first.

Constructors receive objects, never dicts of configuration. The objects are cheap: reading
files, loading weights and starting processes is for the engine to ask of them, in its order.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from xft.config.overrides import OPEN_SLOTS
from xft.errors import ConfigError
from xft.registry import DEFERRED, SLOTS, resolve

T = TypeVar("T")


def build(config: Mapping[str, Any], root: Callable[..., T]) -> T:
    """Build the top level of a config that ``check`` has passed.

    Args:
        config: plain data, as ``load_config`` returns it.
        root: the class to make of it.

    Raises:
        ConfigError: a component refuses its arguments.
    """
    return root(**{key: _build_value(key, key, value) for key, value in config.items()})


def build_slot(slot: str, spec: str | Mapping[str, Any]) -> Any:
    """Build one component, for instance ``build_slot("template", "chatml")``."""
    return _build_component(slot, slot, spec)


def _build_value(path: str, key: str, value: Any) -> Any:
    if key in OPEN_SLOTS and isinstance(value, Mapping):
        return {
            name: _build_component(f"{path}.{name}", key, each)
            for name, each in value.items()
            if each is not None
        }
    if key in SLOTS and isinstance(value, (str, Mapping)):
        return _build_component(path, key, value)
    return value


def _build_component(path: str, slot: str, spec: str | Mapping[str, Any]) -> Any:
    values = {"type": spec} if isinstance(spec, str) else dict(spec)
    target = resolve(slot, values.pop("type"))
    arguments = {key: _build_value(f"{path}.{key}", key, value) for key, value in values.items()}
    if slot in DEFERRED or not inspect.isclass(target):
        return partial(target, **arguments)
    try:
        return target(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
