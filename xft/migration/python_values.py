"""Evaluate the assignments of a Python config by its syntax tree. Nothing is imported or executed."""

import ast
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from xft.errors import ConfigError

MAX_SIZE = 2_000_000
"""Items, and characters of texts, that all values of a config together may have."""
MAX_BITS = 256
"""Bits of a whole number."""
_MAX_EXPONENT = 16


def _power(base: float, exponent: float) -> float:
    """Return a power; the limit keeps whole numbers short.

    Raises:
        ValueError: the exponent is too large or negative.
    """
    if not 0 <= exponent <= _MAX_EXPONENT:
        raise ValueError(exponent)
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError(base)
    return float(result) if isinstance(base, float) else result


_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
    ast.FloorDiv: operator.floordiv,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True)
class Name:
    """An imported object, which is not resolved.

    Attributes:
        path: as written, with the module of the import: ``xtuner.utils.PROMPT_TEMPLATE.qwen_chat``.
    """

    path: str

    @property
    def last(self) -> str:
        """Last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True)
class PythonConfig:
    """What a config assigns at its top level.

    Attributes:
        values: value of each name.
        used: names that another assignment reads.
    """

    values: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


def evaluate_config(source: str, where: str) -> PythonConfig:
    """Return the names that a config assigns at its top level.

    Calls of ``dict``, arithmetic, conditions and augmented assignments of literals are evaluated. Objects of imports
    become :class:`Name`, and so does every other expression.

    Raises:
        ConfigError: the file does not parse, or its values are larger than ``MAX_SIZE``.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{where}: does not parse as Python ({error})", key="FILE", got=where) from error
    evaluator = _Evaluator(where)
    try:
        evaluator.run(tree.body)
    except RecursionError as error:
        raise ConfigError(f"{where}: an expression is nested too deep", key="FILE", got=where) from error
    return evaluator.config


class _Evaluator:
    def __init__(self, where: str) -> None:
        self.where = where
        self.config = PythonConfig()
        self.imports: dict[str, str] = {}
        self.size = 0

    def run(self, statements: list[ast.stmt]) -> None:
        """Evaluate imports, assignments, and the branch of an ``if`` whose test holds; skip all other statements."""
        for node in statements:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = f"{node.module}." if isinstance(node, ast.ImportFrom) and node.module else ""
                self.imports |= {
                    alias.asname or alias.name.partition(".")[0]: module + alias.name
                    for alias in node.names
                }
            elif isinstance(node, ast.Assign):
                value = self.value(node.value)
                for target in node.targets:
                    self._assign(target, value)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                before = self.config.values.get(node.target.id, Name(node.target.id))
                self._assign(node.target, self._binary(node.op, before, self.value(node.value), node))
            elif isinstance(node, ast.If):
                test = self.value(node.test)
                self.run(node.body if not isinstance(test, Name) and test else node.orelse)

    def _assign(self, target: ast.expr, value: object) -> None:
        if isinstance(target, ast.Name):
            self.config.values[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, (list, tuple)):
            for part, item in zip(target.elts, value, strict=False):
                self._assign(part, item)
        elif isinstance(target, ast.Subscript):
            holder, key = self.value(target.value), self.value(target.slice)
            if isinstance(holder, dict) and isinstance(key, str):
                holder[key] = value
                self._sized(holder)

    def _sized(self, value: Any) -> Any:
        """Count a new value.

        Raises:
            ConfigError: the values are larger than ``MAX_SIZE`` together.
        """
        # Why: a list that holds another twice, thirty times over, takes no memory until it is written out.
        stack: list[object] = [value]
        while stack and self.size <= MAX_SIZE:
            item = stack.pop()
            self.size += len(item) if isinstance(item, str) else 1
            if isinstance(item, dict):
                stack += [*item, *item.values()]
            elif isinstance(item, list):
                stack += item
        if self.size > MAX_SIZE:
            message = f"{self.where}: its values have more than {MAX_SIZE:,} items and characters"
            raise ConfigError(message, key="FILE", got=self.where)
        return value

    def _unknown(self, node: ast.AST) -> Name:
        """Return the text of an expression that is not evaluated, which counts as a value."""
        return Name(self._sized(ast.unparse(node)))

    def value(self, node: ast.expr) -> Any:
        """Return the value of an expression; a :class:`Name` if it is not known."""
        if isinstance(node, ast.Constant):
            return self._sized(node.value)
        if isinstance(node, ast.Name):
            if node.id not in self.config.values:
                return Name(self.imports.get(node.id, node.id))
            self.config.used.add(node.id)
            return self.config.values[node.id]
        if isinstance(node, ast.Attribute):
            holder = self.value(node.value)
            return Name(f"{holder.path}.{node.attr}") if isinstance(holder, Name) else self._unknown(node)
        if isinstance(node, (ast.List, ast.Tuple)):
            return self._sized(list(self._items(node.elts)))
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            return self._sized(
                {self.value(key): self.value(item) for key, item in pairs if isinstance(key, ast.Constant)}
            )
        if isinstance(node, ast.Call):
            return self._sized(self._call(node))
        if isinstance(node, ast.Subscript):
            holder, key = self.value(node.value), self.value(node.slice)
            known = isinstance(holder, dict) and isinstance(key, str) and key in holder
            return holder[key] if known else self._unknown(node)
        if isinstance(node, ast.BinOp):
            return self._binary(node.op, self.value(node.left), self.value(node.right), node)
        return self._conditional(node)

    def _items(self, nodes: list[ast.expr]) -> Iterator[Any]:
        for node in nodes:
            value = self.value(node.value if isinstance(node, ast.Starred) else node)
            if isinstance(node, ast.Starred) and isinstance(value, list):
                yield from value
            else:
                yield value

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
            out: dict[str, Any] = {}
            for keyword in node.keywords:
                value = self.value(keyword.value)
                out |= (
                    {keyword.arg: value}
                    if keyword.arg is not None
                    else value
                    if isinstance(value, dict)
                    else {}
                )
            return out
        if isinstance(node.func, ast.Name) and node.func.id == "int" and len(node.args) == 1:
            number = self.value(node.args[0])
            is_small = isinstance(number, (int, float)) and abs(number) < 2**MAX_BITS
            return int(number) if is_small else self._unknown(node)
        arguments = {keyword.arg: self.value(keyword.value) for keyword in node.keywords if keyword.arg}
        called = self.value(node.func)
        return (
            {"type": called, **arguments} if arguments and isinstance(called, Name) else self._unknown(node)
        )

    def _conditional(self, node: ast.expr) -> Any:
        if isinstance(node, ast.IfExp):
            test = self.value(node.test)
            return self.value(node.body if not isinstance(test, Name) and test else node.orelse)
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self._binary(node.ops[0], self.value(node.left), self.value(node.comparators[0]), node)
        if isinstance(node, ast.UnaryOp):
            value = self.value(node.operand)
            if isinstance(node.op, ast.USub) and isinstance(value, (int, float)):
                return -value
            if isinstance(node.op, ast.Not) and not isinstance(value, Name):
                return not value
        if isinstance(node, ast.JoinedStr):
            parts = [
                self.value(part.value) if isinstance(part, ast.FormattedValue) else self.value(part)
                for part in node.values
            ]
            if all(isinstance(part, (str, int, float)) for part in parts):
                return self._sized("".join(map(str, parts)))
        return self._unknown(node)

    def _binary(self, kind: ast.AST, left: object, right: object, node: ast.AST) -> Any:
        operation = _OPERATORS.get(type(kind))
        # A text or list times a number could fill the memory.
        repeats = isinstance(kind, ast.Mult) and not (
            isinstance(left, (int, float)) and isinstance(right, (int, float))
        )
        if operation is None or repeats or isinstance(left, Name) or isinstance(right, Name):
            return self._unknown(node)
        try:
            result = operation(left, right)
        except (TypeError, ValueError, ArithmeticError):
            return self._unknown(node)
        if isinstance(result, int) and result.bit_length() > MAX_BITS:
            return self._unknown(node)
        return self._sized(result)
