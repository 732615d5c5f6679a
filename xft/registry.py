"""The registries: everything that a config may name under ``type=``.

They are MMEngine registries, so that a component of the user's own package registers in the
usual way (``@FORMATS.register_module()``) and any importable ``package.module.name`` is
accepted without registering at all.

``REGISTRY_BY_KEY`` says which registry a key of the config belongs to: the dict under ``adapter=`` is
looked up in ``ADAPTERS``. Where an entry is a function, or a registry is *deferred*, building
it binds the arguments that the config gives and leaves the rest to the caller
(:func:`functools.partial`): a map function still wants its row, an optimizer its parameters.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from xft.compat.yapf import import_yapf
from xft.errors import ConfigError, did_you_mean

import_yapf()

from mmengine.registry import Registry  # noqa: E402

MODELS = Registry("model", scope="xft", locations=["xft.models"])
ADAPTERS = Registry("adapter", scope="xft", locations=["xft.models"])
QUANTIZERS = Registry("quantization", scope="xft", locations=["xft.models"])
TEMPLATES = Registry("template", scope="xft", locations=["xft.templates"])
DATASETS = Registry("data", scope="xft", locations=["xft.data"])
FORMATS = Registry("format", scope="xft", locations=["xft.data"])
OBJECTIVES = Registry("objective", scope="xft", locations=["xft.objectives"])
OPTIMIZERS = Registry("optimizer", scope="xft", locations=["xft.optim"])
LR_SCHEDULERS = Registry("lr_scheduler", scope="xft", locations=["xft.optim"])
STRATEGIES = Registry("strategy", scope="xft", locations=["xft.strategies"])
HOOKS = Registry("hook", scope="xft", locations=["xft.training"])
LOGGERS = Registry("logger", scope="xft", locations=["xft.loggers"])
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
    "scorer": SCORERS,
}

PARTIAL_KEYS = frozenset({"optimizer", "lr_scheduler", "loggers"})
"""Slots whose classes are not instantiated by ``build`` but bound: they want what the engine knows
(the parameters, the number of steps, the work folder)."""


T = TypeVar("T", bound=Callable[..., Any])


def register(slot: str, *aliases: str) -> Callable[[T], T]:
    """Register a class or function under one or more names: ``@register("format", "alpaca")``."""

    def keep(component: T) -> T:
        REGISTRY_BY_KEY[slot].register_module(name=list(aliases), module=component)
        return component

    return keep


def resolve(slot: str, name: str) -> Callable[..., Any]:
    """Find the component that a config names.

    Args:
        slot: the key of the config that it stands under, one of ``REGISTRY_BY_KEY``.
        name: a registered name, or ``package.module.name``.

    Returns:
        The class or function.

    Raises:
        ConfigError: nothing of that name is registered or can be imported.
    """
    registry = REGISTRY_BY_KEY[slot]
    registry.import_from_location()
    if name in registry.module_dict:
        return registry.module_dict[name]
    if "." in name:
        return _import(slot, name)
    raise ConfigError(f"{slot}: no {slot} is called {name!r}; {did_you_mean(name, list_registered(slot))}")


def list_registered(slot: str) -> list[str]:
    """The registered names of a slot, sorted."""
    registry = REGISTRY_BY_KEY[slot]
    registry.import_from_location()
    return sorted(registry.module_dict)


def _import(slot: str, path: str) -> Callable[..., Any]:
    from importlib import import_module

    module, _, attribute = path.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{slot}: cannot import {path!r} ({error}); expected a registered name "
            f"({', '.join(list_registered(slot)) or 'none yet'}) or an importable package.module.name"
        ) from error
    if not callable(found):
        raise ConfigError(f"{slot}: {path!r} is a {type(found).__name__}, expected a class or function")
    return found
