"""Registries of the components that a config may name under ``type=``.

They are MMEngine registries: a user package registers its components with ``@FORMATS.register_module()``. Any
importable ``package.module.name`` is accepted without registration.

``REGISTRY_BY_KEY`` maps a key of the config to its registry: the dict under ``adapter=`` names a component of
``ADAPTERS``. A function, and a class under one of ``PARTIAL_KEYS``, is bound to the arguments in the config with
:func:`functools.partial`; the caller adds the others: a row for a format, the parameters for an optimizer.
"""

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, TypeVar

from xft.compat.yapf import import_yapf
from xft.errors import ConfigError, did_you_mean

import_yapf()

from mmengine.registry import Registry  # noqa: E402

MODELS = Registry("model", scope="xft", locations=["xft.models"])
ADAPTERS = Registry("adapter", scope="xft", locations=["xft.models"])
QUANTIZERS = Registry("quantization", scope="xft", locations=["xft.models"])
TEMPLATES = Registry("template", scope="xft", locations=["xft.templates"])
DATASETS = Registry("data", scope="xft", locations=["xft.data.config.kinds", "xft.data.config.mixture"])
FORMATS = Registry("format", scope="xft", locations=["xft.data.formats"])
OBJECTIVES = Registry("objective", scope="xft", locations=["xft.objectives"])
OPTIMIZERS = Registry("optimizer", scope="xft", locations=["xft.optim"])
LR_SCHEDULERS = Registry("lr_scheduler", scope="xft", locations=["xft.optim"])
STRATEGIES = Registry("strategy", scope="xft", locations=["xft.strategies"])
HOOKS = Registry("hook", scope="xft", locations=["xft.training"])
LOGGERS = Registry("logger", scope="xft", locations=["xft.loggers"])
REWARDS = Registry("reward", scope="xft", locations=["xft.rollouts"])
ENGINES = Registry("engine", scope="xft", locations=["xft.rollouts"])
ENVIRONMENTS = Registry("environment", scope="xft", locations=["xft.rollouts"])
SCORERS = Registry("scorer", scope="xft", locations=["xft.evaluation"])

REGISTRY_BY_KEY: dict[str, Registry] = {
    "model": MODELS,
    "adapter": ADAPTERS,
    "quantization": QUANTIZERS,
    "template": TEMPLATES,
    "data": DATASETS,
    "datasets": DATASETS,
    "format": FORMATS,
    "objective": OBJECTIVES,
    "optimizer": OPTIMIZERS,
    "lr_scheduler": LR_SCHEDULERS,
    "strategy": STRATEGIES,
    "hooks": HOOKS,
    "loggers": LOGGERS,
    "rewards": REWARDS,
    "engine": ENGINES,
    "environment": ENVIRONMENTS,
    "scorer": SCORERS,
}

PARTIAL_KEYS = frozenset({"optimizer", "lr_scheduler", "loggers"})
"""Keys whose classes are bound and not instantiated, because the training setup adds arguments."""


T = TypeVar("T", bound=Callable[..., Any])


def register(key: str, *names: str) -> Callable[[T], T]:
    """Register a class or function under one or more names: ``@register("format", "alpaca")``."""

    def decorator(component: T) -> T:
        REGISTRY_BY_KEY[key].register_module(name=list(names), module=component)
        return component

    return decorator


def resolve(key: str, name: str) -> Callable[..., Any]:
    """Return the component that a config names.

    Args:
        key: key of the config that holds the component, one of ``REGISTRY_BY_KEY``.
        name: a registered name, or ``package.module.name``.

    Returns:
        The class or function.

    Raises:
        ConfigError: ``name`` is neither registered nor importable.
    """
    registry = REGISTRY_BY_KEY[key]
    _register_components(registry)
    if name in registry.module_dict:
        return registry.module_dict[name]
    if "." in name:
        return _import(key, name)
    fix = did_you_mean(name, list_registered(key))
    raise ConfigError(f"{key}: unknown {registry.name} {name!r}; {fix}", key=key, got=name, fix=fix)


def list_registered(key: str) -> list[str]:
    """Return the sorted names of the components that are registered for a key."""
    registry = REGISTRY_BY_KEY[key]
    _register_components(registry)
    return sorted(registry.module_dict)


def _register_components(registry: Registry) -> None:
    """Import the modules that register the components of a registry.

    MMEngine's own method of the registry logs what it does, for which it imports torch.
    """
    for location in registry._locations:
        import_module(location)


def callable_name(component: Callable[..., Any]) -> str:
    """Return the qualified name of a function or class; of another callable object, that of its class."""
    is_named = inspect.isclass(component) or inspect.isroutine(component)
    return component.__qualname__ if is_named else type(component).__qualname__


def _import(key: str, path: str) -> Callable[..., Any]:
    module, _, attribute = path.rpartition(".")
    try:
        _search_current_folder(module.partition(".")[0])
        component = resolve_name(f"{module}:{attribute}")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        names = ", ".join(list_registered(key)) or "none yet"
        expected = f"a registered name ({names}) or an importable package.module.name"
        message = f"{key}: cannot import {path!r} ({error}); expected {expected}"
        raise ConfigError(message, key=key, got=path, expected=expected) from error
    if not callable(component):
        expected = "a class or function"
        message = f"{key}: {path!r} is a {type(component).__name__}; expected {expected}"
        raise ConfigError(message, key=key, got=path, expected=expected)
    return component


def _search_current_folder(package: str) -> None:
    """Let a module of the user's be imported from the current folder, which comes last and so hides no library."""
    # A module that a program has made itself has no spec, for which find_spec raises ValueError.
    if (
        package not in sys.modules
        and find_spec(package) is None
        and (folder := os.getcwd()) not in sys.path
    ):
        sys.path.append(folder)
