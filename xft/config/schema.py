"""Describe configs as JSON Schema (draft 2020-12), for editors and agents that write them.

The schema accepts the plain data of a config, as ``load_config`` returns it and ``json`` writes it. It is derived from
the signatures that ``check`` binds a config to. Components are discriminated by ``type``; a dotted path, which names a
class or function outside xft, accepts all keys.
"""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from xft.config.overrides import NAMED_COLLECTIONS
from xft.config.signatures import (
    Component,
    accepts_any_key,
    argument_docs,
    dataclass_of,
    limits_of,
    named_parameters,
    signature_of,
    summary_of,
)
from xft.registry import PARTIAL_KEYS, REGISTRY_BY_KEY, list_registered, resolve

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
DOTTED_PATH: Schema = {"type": "string", "pattern": r"\."}
LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
PLAIN_TYPES: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    None: {"type": "null"},
    Any: {},
}


def json_schema(root: Callable[..., Any]) -> Schema:
    """Return the schema of a config whose top level is bound to ``root``."""
    definitions = {key: _component(key) for key in REGISTRY_BY_KEY}
    return {"$schema": DRAFT, "title": "xft config", **_call(root, False), "$defs": definitions}


def _call(target: Component, partial: bool, name: str | None = None) -> Schema:
    """Return the schema of the keyword arguments of ``target``, and of ``type`` if it has a name."""
    _, hints = signature_of(target)
    docs = argument_docs(target)
    properties: Schema = {} if name is None else {"type": {"const": name}}
    required = [] if name is None else ["type"]
    for key, parameter in named_parameters(target).items():
        properties[key] = _value(key, hints.get(key, Any))
        if docs.get(key):
            properties[key] = {"description": docs[key], **properties[key]}
        default = parameter.default
        if isinstance(default, (str, int, float)):
            properties[key]["default"] = default
        if default is inspect.Parameter.empty and not partial:
            required.append(key)
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    return schema if accepts_any_key(target) else {**schema, "additionalProperties": False}


def _component(key: str) -> Schema:
    """Return the schema of one component of the registry at ``key``: a name, or a dict with ``type``."""
    names = list_registered(key)
    calls = []
    for name in names:
        target = resolve(key, name)
        partial = key in PARTIAL_KEYS or not inspect.isclass(target)
        calls.append({"description": summary_of(target), **_call(target, partial, name)})
    foreign = {"type": "object", "properties": {"type": DOTTED_PATH}, "required": ["type"]}
    return {"oneOf": [{"enum": names}, DOTTED_PATH, *calls, foreign]}


def _value(key: str, hint: object) -> Schema:
    if key not in REGISTRY_BY_KEY:
        return _plain(hint)
    component: Schema = {"$ref": f"#/$defs/{key}"}
    if key in NAMED_COLLECTIONS:
        return {"type": "object", "additionalProperties": {"anyOf": [component, {"type": "null"}]}}
    return {"anyOf": [component, {"type": "null"}]} if type(None) in get_args(hint) else component


def _plain(hint: object) -> Schema:
    """Return the schema of a plain value; ``not`` everything for a class that no plain value can be."""
    if isinstance(hint, TypeVar) or hint in PLAIN_TYPES:
        return dict(PLAIN_TYPES.get(hint, {}))
    section = dataclass_of(hint)
    if section is not None:
        return _call(section, False)
    origin, items = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return {**_plain(items[0]), **{LIMITS[name]: limit for name, limit in limits_of(hint).items()}}
    if origin is Literal:
        return {"enum": list(items)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_plain(option) for option in items]}
    bare = origin or hint
    if bare is tuple and items and items[-1] is not Ellipsis:
        fixed = [_plain(item) for item in items]
        return {"type": "array", "prefixItems": fixed, "minItems": len(fixed), "maxItems": len(fixed)}
    if inspect.isclass(bare) and issubclass(bare, (list, tuple, Sequence)):
        return {"type": "array", "items": _plain(items[0])} if items else {"type": "array"}
    if inspect.isclass(bare) and issubclass(bare, (dict, Mapping)):
        return {"type": "object"}
    return {"not": {}}
