"""Signatures of the components of xft, saved as data: a config is checked with them without importing torch.

The file is written to the cache folder after the components were imported, and is valid for the sources that it was made
from. A config that names code outside of xft, by a dotted path or a name that such code has registered, is left to the full
check.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Interval

from xft.config.check import check
from xft.config.signatures import (
    Component,
    accepts_any_key,
    dataclass_of,
    limits_of,
    named_parameters,
    signature_of,
)
from xft.errors import ConfigError, did_you_mean
from xft.registry import REGISTRY_BY_KEY, callable_name, list_registered, resolve
from xft.utils import paths

Encoded = Any
"""Plain data of JSON."""
_PLAIN: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "None": None, "Any": Any}
_CONTAINERS: dict[str, Any] = {"list": list, "tuple": tuple, "dict": dict}


MAX_SNAPSHOTS = 4
"""Files that are kept: the newest ones, of several versions of xft."""


class _ForeignComponent(Exception):
    """A config names a component that is not one of xft."""


def quick_check(config: Mapping[str, Any], where: str) -> bool:
    """Check a config without importing its components, if a snapshot of their signatures exists.

    Args:
        config: plain data, as ``load_config`` returns it.
        where: name of the config in the message.

    Returns:
        Whether the config was checked.

    Raises:
        ConfigError: the config has mistakes.
    """
    try:
        saved = json.loads(_file().read_text(encoding="utf-8"))
        root = _component(saved["root"])
        components = {
            key: {name: _component(spec) for name, spec in saved["components"][key].items()}
            for key in REGISTRY_BY_KEY
        }
    except (OSError, ValueError, LookupError, TypeError):  # absent or damaged: the full check decides
        return False

    def find(key: str, name: str) -> Component:
        registry = REGISTRY_BY_KEY[key]
        if "." in name or _is_foreign(registry.module_dict.get(name)):
            raise _ForeignComponent(name)
        if name in components[key]:
            return components[key][name]
        fix = did_you_mean(name, components[key])
        raise ConfigError(f"{key}: unknown {registry.name} {name!r}; {fix}", key=key, got=name, fix=fix)

    try:
        check(config, root, where, find)
    except _ForeignComponent:
        return False
    return True


def save_snapshot(root: Callable[..., Any]) -> None:
    """Save the signatures of all components, unless it was done for these sources. Errors of the disk are ignored.

    Nothing is saved if other code has registered components: they are not xft's, and may replace those of xft.

    Args:
        root: class of the top level of a config.
    """
    file = _file()
    if file.is_file():
        return
    components = {
        key: {name: resolve(key, name) for name in list_registered(key)} for key in REGISTRY_BY_KEY
    }
    if any(_is_foreign(component) for named in components.values() for component in named.values()):
        return
    encoded = {
        key: {name: _encode(component) for name, component in named.items()}
        for key, named in components.items()
    }
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({"root": _encode(root), "components": encoded}), encoding="utf-8")
        draft.replace(file)
        _remove_old(file.parent)
    except OSError:  # a cache: the next command tries again
        draft.unlink(missing_ok=True)


def _is_foreign(component: object) -> bool:
    """Return whether a registered component is not one of xft; false for ``None``."""
    return component is not None and not str(getattr(component, "__module__", "")).startswith("xft.")


def _remove_old(folder: Path) -> None:
    """Remove the oldest snapshots, and the drafts of killed processes among them."""
    files = sorted(folder.glob("signatures-*"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for old in files[MAX_SNAPSHOTS:]:
        old.unlink(missing_ok=True)


def _file() -> Path:
    """Return the file for the sources of this package: any change of them gives another name."""
    digest = hashlib.sha256()
    for path in sorted(paths.PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return paths.cache_dir() / f"signatures-{digest.hexdigest()[:16]}.json"


def _encode(target: Component) -> Encoded:
    _, hints = signature_of(target)
    return {
        "name": callable_name(target),
        "is_class": inspect.isclass(target),
        "any_key": accepts_any_key(target),
        "parameters": [
            [
                name,
                _encode_hint(hints.get(name, Any), name not in REGISTRY_BY_KEY),
                parameter.default is inspect.Parameter.empty,
            ]
            for name, parameter in named_parameters(target).items()
        ],
    }


def _encode_hint(hint: object, has_sections: bool = True) -> Encoded:
    """Return an annotation as plain data.

    Args:
        hint: the annotation.
        has_sections: whether a dict is bound to a dataclass; a component is bound by its name.
    """
    if hint is None or hint is type(None):
        return "None"
    origin, items = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return ["limits", _encode_hint(items[0], has_sections), limits_of(hint)]
    if origin is Literal:
        return ["literal", list(items)]
    if origin in (Union, UnionType):
        return ["union", [_encode_hint(item, has_sections) for item in items]]
    section = dataclass_of(hint) if has_sections else None
    if section is not None:
        return ["section", _encode(section)]
    if hint is Any or isinstance(hint, TypeVar):
        return "Any"
    bare: object = origin or hint
    if not inspect.isclass(bare):
        return "Any"
    if bare.__name__ in _PLAIN:
        return bare.__name__
    arguments = [
        "..." if item is Ellipsis else _encode_hint(item, False)
        for item in items
        if not isinstance(item, list)
    ]
    for name, kind in (("tuple", tuple), ("dict", Mapping), ("list", Sequence)):
        if issubclass(bare, kind):
            return ["container", name, arguments]
    return ["class", bare.__name__]


def _component(spec: Encoded) -> Component:
    """Return a class or function with the signature of a component; it computes nothing."""
    hints = {name: _hint(hint) for name, hint, _ in spec["parameters"]}
    signature = inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if is_required else None,
                annotation=hints[name],
            )
            for name, _, is_required in spec["parameters"]
        ]
        + ([inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)] if spec["any_key"] else [])
    )

    def component(*arguments: object, **keywords: object) -> None:
        del arguments, keywords

    component.__annotations__ = hints
    if not spec["is_class"]:
        component.__signature__ = signature  # type: ignore[attr-defined]
        return component
    fields = {"__init__": component, "__signature__": signature, "__dataclass_fields__": {}}
    return type(spec["name"], (), fields)


def _hint(spec: Encoded) -> Any:
    if isinstance(spec, str):
        return ... if spec == "..." else _PLAIN[spec]
    kind, value, *rest = spec
    if kind == "limits":
        return Annotated[_hint(value), Interval(**rest[0])]
    if kind == "literal":
        return Literal[tuple(value)]
    if kind == "union":
        return Union[tuple(_hint(item) for item in value)]  # noqa: UP007
    if kind == "section":
        return _component(value)
    if kind == "container":
        items = tuple(_hint(item) for item in rest[0])
        return _CONTAINERS[value][items] if items else _CONTAINERS[value]
    return type(value, (), {})
