"""Write a config as a Python file, formatted as if by hand: ``dict(...)`` calls, a comment for each documented key."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from keyword import iskeyword
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from xft.config.keys import plural
from xft.config.overrides import NAMED_COLLECTIONS
from xft.config.signatures import argument_docs, dataclass_of, signature_of
from xft.errors import ConfigError
from xft.registry import REGISTRY_BY_KEY, list_registered, resolve
from xft.utils.paths import write_text

WIDTH = 104
INDENT = "    "
MAX_ALTERNATIVES = 8


def dump_config(
    config: Mapping[str, Any], path: str | Path | None = None, root: Callable[..., Any] | None = None
) -> str:
    """Write a config as a Python file of plain assignments, which ``load_config`` and ``safe_load`` read back.

    Args:
        config: a config as ``load_config`` returns it.
        path: file to write; ``None`` writes none.
        root: class of the top level. With it, keys get a comment from its docstring and those of the components.

    Returns:
        The text of the file.
    """
    literal = "dict" in config  # a key of this name hides the builtin
    docs = argument_docs(root) if root is not None else {}
    hints = signature_of(root)[1] if root is not None else {}
    writer = _Writer(literal, documented=root is not None)
    lines: list[str] = []
    for key, value in config.items():
        comment = docs.get(key, "")
        is_name = key in REGISTRY_BY_KEY and isinstance(value, str) and root is not None
        if is_name:
            comment = _join(comment, _alternatives(key, value))
        written = writer.value(key, value, hints.get(key), "")
        if "\n" in written and lines:
            lines.append("")
        lines += _with_comment("", f"{key} = ", written, "", comment)
    text = "\n".join(lines) + "\n"
    if path is not None:
        write_text(Path(path), text)
    return text


class _Writer:
    """Formats values.

    Args:
        literal: write ``{...}`` for every dict.
        documented: add comments.
    """

    def __init__(self, literal: bool, documented: bool) -> None:
        self.literal, self.documented = literal, documented

    def value(self, key: str, value: object, hint: object, indent: str) -> str:
        """Format the value at ``key``; ``hint`` is its annotation."""
        if not isinstance(value, dict) or not value or not self.documented:
            return self.plain(value, indent, len(indent) + len(key) + 2)
        if key in NAMED_COLLECTIONS:
            entries = {name: self.component(key, spec, indent + INDENT) for name, spec in value.items()}
            return self.dictionary(entries, {}, indent)
        if key in REGISTRY_BY_KEY:
            return self.component(key, value, indent)
        section = dataclass_of(hint)
        return self.documented_dict(value, section, {}, indent)

    def component(self, key: str, spec: object, indent: str) -> str:
        """Format the dict of one component of the registry at ``key``."""
        if not isinstance(spec, dict) or not isinstance(name := spec.get("type"), str):
            return self.plain(spec, indent, len(indent))
        target = None if "." in name else _find(key, name)
        # In a collection such as hooks, a component of another type is another key, not an alternative.
        comments = {"type": _alternatives(key, name)} if key not in NAMED_COLLECTIONS else {}
        return self.documented_dict(spec, target, comments, indent)

    def documented_dict(
        self,
        values: dict[str, Any],
        target: Callable[..., Any] | None,
        comments: dict[str, str],
        indent: str,
    ) -> str:
        """Format a dict that ``target`` is called with."""
        hints = signature_of(target)[1] if target is not None else {}
        docs = argument_docs(target) if target is not None else {}
        entries, below = {}, indent + INDENT
        for key, value in values.items():
            entries[key] = self.value(str(key), value, hints.get(key), below)
            if key not in comments:
                comments[key] = _join(docs.get(key, ""), _literals(hints.get(key), value))
            if key in REGISTRY_BY_KEY and isinstance(value, str):
                comments[key] = _join(docs.get(key, ""), _alternatives(key, value))
        return self.dictionary(entries, comments, indent)

    def dictionary(self, entries: Mapping[Any, str], comments: Mapping[str, str], indent: str) -> str:
        """Join formatted values; on one line if they fit and have no comments."""
        calls = not self.literal and all(_is_argument(key) for key in entries)
        begin, end = ("dict(", ")") if calls else ("{", "}")
        heads = {key: f"{key}=" if calls else f"{format_scalar(key)}: " for key in entries}
        one_line = begin + ", ".join(heads[key] + text for key, text in entries.items()) + end
        if not any(comments.values()) and "\n" not in one_line and len(indent) + len(one_line) <= WIDTH:
            return one_line
        below = indent + INDENT
        lines = [
            line
            for key, text in entries.items()
            for line in _with_comment(below, heads[key], text, ",", comments.get(key, ""))
        ]
        return "\n".join([begin, *lines, indent + end])

    def plain(self, value: object, indent: str, used: int) -> str:
        """Format any plain value without comments; ``used`` characters precede it on its line."""
        if isinstance(value, dict):
            below = indent + INDENT
            entries = {
                key: self.plain(item, below, len(below) + len(repr(key)) + 2) for key, item in value.items()
            }
            return self.dictionary(entries, {}, indent)
        if not isinstance(value, (list, tuple)):
            return format_scalar(value)
        begin, end = "[]" if isinstance(value, list) else "()"
        items = [self.plain(item, indent + INDENT, len(indent) + len(INDENT)) for item in value]
        one_line = begin + ", ".join(items) + ("," if len(items) == 1 and begin == "(" else "") + end
        if not items or ("\n" not in one_line and used + len(one_line) <= WIDTH):
            return one_line
        return "\n".join([begin, *(f"{indent}{INDENT}{item}," for item in items), indent + end])


def format_docstring(text: str) -> str:
    """Return a text as a docstring on one line; quotes, backslashes and control characters are escaped."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    escaped = [escapes.get(char) or (char if char.isprintable() else repr(char)[1:-1]) for char in text]
    return f'"""{"".join(escaped)}"""'


def _with_comment(indent: str, head: str, text: str, end: str, comment: str) -> Iterator[str]:
    """Yield an entry with its comment: after it if both fit on the line, otherwise above it."""
    line = f"{indent}{head}{text}{end}"
    if comment and "\n" not in text and len(line) + len(comment) + 4 <= WIDTH:
        yield f"{line}  # {comment}"
        return
    if comment:
        yield from textwrap.wrap(
            comment, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
    yield line


def _alternatives(key: str, name: str) -> str:
    others = [other for other in list_registered(key) if other != name]
    shown = ", ".join(others[:MAX_ALTERNATIVES])
    more = f", ... (xft list {plural(key)})" if len(others) > MAX_ALTERNATIVES else ""
    return f"or: {shown}{more}" if others else ""


def _literals(hint: object, value: object) -> str:
    options = [hint, *get_args(hint)] if hint is not None else []
    names: Sequence[Any] = [
        name for option in options if get_origin(option) is Literal for name in get_args(option)
    ]
    others = [format_scalar(name) for name in names if name != value]
    return f"or: {', '.join(others)}" if others else ""


def _join(comment: str, alternatives: str) -> str:
    return "; ".join(part for part in (comment, alternatives) if part)


def _find(key: str, name: str) -> Callable[..., Any] | None:
    try:
        return resolve(key, name)
    except ConfigError:
        return None


def _is_argument(key: object) -> bool:
    """Return whether a key can be written as the keyword argument of ``dict``, unchanged."""
    return (
        isinstance(key, str)
        and key.isascii()
        and key.isidentifier()
        and not iskeyword(key)
        and key != "__debug__"
    )


def format_scalar(value: object) -> str:
    """Return a value without items as Python: a text in double quotes."""
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in value:
        return f'"{text[1:-1]}"'
    return text
