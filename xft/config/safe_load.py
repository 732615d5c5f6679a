"""Read a config as data: nothing of it is run, and it can name nothing but what xft has registered.

Made for a config that came from somebody else, such as the ``config.py`` of their run folder.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xft.config.overrides import NAMED_COLLECTIONS
from xft.errors import ConfigError
from xft.registry import REGISTRY_BY_KEY


def safe_load(file: Path, tree: ast.Module) -> dict[str, Any]:
    """Read a file of plain assignments, ``NAME = LITERAL``, as ``dump_config`` writes them.

    Args:
        file: for messages.
        tree: its syntax.

    Raises:
        ConfigError: a line that would have to be run; a component named by a dotted path, which
            would be imported; or ``trust_remote_code``. All of them.
    """
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        try:
            [target] = node.targets if isinstance(node, ast.Assign) else []
            values[_name(target)] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
        except (ValueError, TypeError, RecursionError):
            wrong.append(f"line {node.lineno} would have to be run, expected NAME = a literal")
    wrong += _reaching("", values)
    if wrong:
        raise ConfigError(
            f"{file}: --safe-config\n"
            + "\n".join(wrong)
            + "\nleave --safe-config out where you trust this file"
        )
    return values


def _name(target: ast.expr) -> str:
    if isinstance(target, ast.Name):
        return target.id
    raise ValueError("not a plain name")


def _reaching(path: str, values: Mapping[Any, Any]) -> Iterator[str]:
    """What leads out of the config to code that is not of xft."""
    for key, value in values.items():
        full = f"{path}.{key}" if path else str(key)
        names_one = key == "type" or key in REGISTRY_BY_KEY or path.rpartition(".")[2] in NAMED_COLLECTIONS
        if isinstance(value, str) and names_one and "." in value:
            yield f"{full}: {value!r} would be imported, expected a registered name"
        elif key == "trust_remote_code" and value:
            yield f"{full}: would run code that lies beside the weights"
        elif isinstance(value, Mapping):
            yield from _reaching(full, value)
        elif isinstance(value, (list, tuple)):
            yield from _reaching(full, dict(enumerate(value)))
