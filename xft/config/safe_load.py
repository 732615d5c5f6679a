"""Parse a config without executing it. It can name only components that are registered in xft.

For an untrusted config, such as the ``config.py`` in the run folder of another person.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xft.config.overrides import NAMED_COLLECTIONS
from xft.errors import ConfigError
from xft.registry import REGISTRY_BY_KEY

LITERAL = "NAME = a literal"
MAX_SHOWN = 20
LOGGER_ADDRESSES = ("uri", "entity")
"""Keys of loggers that name the receiver of configs, data reports and answers."""


def safe_load(file: Path, tree: ast.Module) -> dict[str, Any]:
    """Read a file of assignments, ``NAME = LITERAL``, as ``dump_config`` writes them.

    Args:
        file: path of the file, for messages.
        tree: its syntax tree. ``dict(key=LITERAL)`` counts as a literal.

    Raises:
        ConfigError: the file has another statement, names a component by a dotted path, which would be imported, or
            sets ``trust_remote_code``, a kernel of the hub or the address of a logger. ``causes`` has an error for each of them.
    """
    values: dict[str, Any] = {}
    mistakes: list[ConfigError] = []
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        try:
            name, value = _assignment(node)
            values[name] = ast.literal_eval(_DictCalls().visit(value))
        except (ValueError, TypeError, RecursionError):
            message = f"line {node.lineno} would have to be executed; expected {LITERAL}"
            mistakes.append(ConfigError(message, key=f"line {node.lineno}", expected=LITERAL))
    mistakes += _find_foreign_code("", values)
    if mistakes:
        shown = [str(mistake) for mistake in mistakes[:MAX_SHOWN]]
        if len(mistakes) > MAX_SHOWN:
            shown.append(f"and {len(mistakes) - MAX_SHOWN} more")
        lines = [f"{file}: --safe-config", *shown, "omit --safe-config if you trust this file"]
        raise ConfigError("\n".join(lines), key=mistakes[0].key, got=mistakes[0].got, causes=mistakes)
    return values


class _DictCalls(ast.NodeTransformer):
    """Replaces ``dict(key=value)`` by ``{"key": value}``."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Replace a call of ``dict`` with keyword arguments only; leave any other call to fail."""
        self.generic_visit(node)
        names = [keyword.arg for keyword in node.keywords]
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args or None in names:
            return node
        return ast.Dict(
            [ast.Constant(name) for name in names], [keyword.value for keyword in node.keywords]
        )


def _assignment(node: ast.stmt) -> tuple[str, ast.expr]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    raise ValueError("not an assignment to one name")


def _find_foreign_code(path: str, values: Mapping[Any, Any]) -> Iterator[ConfigError]:
    """Find values that would make xft execute code of others."""
    for key, value in values.items():
        full = f"{path}.{key}" if path else str(key)
        names_component = (
            key == "type" or key in REGISTRY_BY_KEY or path.rpartition(".")[2] in NAMED_COLLECTIONS
        )
        if isinstance(value, str) and names_component and "." in value:
            expected = "a registered name"
            message = f"{full}: {value!r} would be imported; expected {expected}"
            yield ConfigError(message, key=full, got=value, expected=expected)
        elif key == "attn_implementation" and isinstance(value, str) and "/" in value:
            expected = "an attention of transformers"
            message = (
                f"{full}: {value!r} is a kernel of the hub, which would be executed; expected {expected}"
            )
            yield ConfigError(message, key=full, got=value, expected=expected)
        elif path.startswith("loggers.") and key in LOGGER_ADDRESSES and value:
            yield ConfigError(f"{full}: would send data to {value!r}", key=full, got=value)
        elif key == "trust_remote_code" and value:
            yield ConfigError(f"{full}: would run code from the model folder", key=full, got=value)
        elif isinstance(value, Mapping):
            yield from _find_foreign_code(full, value)
        elif isinstance(value, (list, tuple)):
            yield from _find_foreign_code(full, dict(enumerate(value)))
