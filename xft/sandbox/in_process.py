"""Jinja environment that renders a subset of the language in bounded time and memory.

A chat template is untrusted, and Jinja's sandbox limits neither time nor memory. Examples: nested loops,
recursive macros, ``'a' * 10**9``, ``'%1000000000d' % 1``, ``x | center(10**9)``, a list that contains
another list many times. No check can interrupt an operation that runs in C. This environment therefore
supports a fixed subset of Jinja in which the cost of an operation is bounded by the size of its operands.
It limits iterations, calls, time, and the length of each string that an operation creates
(:mod:`xft.sandbox.operation_limits`). Anything else
raises :class:`NeedsIsolation`; :mod:`xft.sandbox.isolation` then renders the template in a process with
operating-system limits. The templates of the library and of most model families need no isolation.

Measured: the checks make rendering with the templates of Qwen3 and Llama 3 take 1.0 to 1.3 times as long.
Most of the time per row is spent in the tokenizer.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from threading import local
from time import monotonic
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

from xft.sandbox.environment import SafeNamespace
from xft.sandbox.operation_limits import (
    TEXT_METHODS,
    NeedsIsolation,
    check_length,
    check_method,
    join,
    replace,
    words,
)

MAX_STEPS = 200_000
"""Maximum number of iterations and calls in one rendering."""
MAX_SECONDS = 1.0
"""Time after which a rendering is moved to an isolated process."""
MAX_SOURCE = 100_000
"""Maximum length of a template, which bounds the number of operations between two counted steps."""


_NODES = words(
    """
    Add And Assign AssignBlock Break Call CallBlock Compare Concat CondExpr Const Continue Dict Div
    Filter FilterBlock FloorDiv For Getattr Getitem If Keyword List Macro Mod Mul NSRef Name Neg Not
    Operand Or Output Pair Pos Pow Scope Slice Sub Template TemplateData Test Tuple With
    """
)
_FILTERS = words(
    """
    abs attr capitalize count d default dictsort first float int items join last length list lower map max
    min reject rejectattr replace reverse safe select selectattr sort string title tojson trim unique upper
    """
)
_DICT_ATTRIBUTES = frozenset(dir(dict))
_LOOP_ATTRIBUTES = words("first index index0 last length previtem nextitem revindex revindex0")
_MAX_NUMBER, _MAX_EXPONENT, _MAX_OPERANDS = 1 << 31, 64, 32


class _Budget(local):
    steps = 0
    deadline = 0.0


class InProcessEnvironment(ImmutableSandboxedEnvironment):
    """Environment that raises :class:`NeedsIsolation` instead of running an unbounded operation.

    Compile only templates for which :func:`is_supported` returns true: Jinja evaluates constant expressions
    at compile time.
    """

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self._budget = _Budget()

    def limit_filters(self) -> None:
        """Wrap the filters whose output can be longer than their operands."""
        tojson = self.filters["tojson"]
        self.filters["tojson"] = lambda *args, **kwargs: self.concat((tojson(*args, **kwargs),))
        self.filters["join"] = join
        self.filters["replace"] = replace

    def start(self) -> None:
        """Reset the step count and the deadline for a rendering in this thread."""
        self._budget.steps = 0
        self._budget.deadline = monotonic() + MAX_SECONDS

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute or an item. Those that templates read most are safe without further checks."""
        kind = type(obj)
        if kind is dict and attribute not in _DICT_ATTRIBUTES:
            if attribute in obj:
                return obj[attribute]
            return self.undefined(obj=obj, name=attribute)
        if (kind is str and attribute in TEXT_METHODS) or (
            kind is LoopContext and attribute in _LOOP_ATTRIBUTES
        ):
            return getattr(obj, attribute)
        if kind is SafeNamespace and not attribute.startswith("_"):
            value = getattr(obj, attribute, None)
            if type(value) in (bool, int, str):
                return value
        return super().getattr(obj, attribute)

    def step(self) -> None:
        """Count an iteration or a call. Compiled templates call it at the start of each loop iteration."""
        budget = self._budget
        budget.steps += 1
        if budget.steps > MAX_STEPS or monotonic() > budget.deadline:
            raise NeedsIsolation

    def concat(self, parts: Iterable[str]) -> str:
        """Join the output of a template, a macro or a block."""
        texts = list(parts)
        check_length(sum(map(len, texts)))
        return "".join(texts)

    def concat_values(self, *values: object) -> str:
        """Join the operands of ``~``."""
        return self.concat(map(str, values))

    def add(self, *operands: Any) -> Any:
        """Add the operands of ``+`` from left to right."""
        if len(operands) <= _MAX_OPERANDS:
            for operand in operands:  # faster than all()
                if type(operand) is not str:
                    break
            else:
                text = "".join(operands)
                check_length(len(text))
                return text
        return reduce(self._add_two, operands)

    def _add_two(self, left: Any, right: Any) -> Any:
        if isinstance(left, str) and isinstance(right, str):
            check_length(len(left) + len(right))
        elif isinstance(left, Sequence) and isinstance(right, Sequence):
            raise NeedsIsolation  # a list may contain another list many times
        return left + right

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> Any:
        """Apply ``*``, ``**`` or ``%`` to numbers of limited size."""
        if not isinstance(left, Undefined) and not isinstance(right, Undefined):
            limit = _MAX_EXPONENT if operator == "**" else _MAX_NUMBER
            for number in (left, right):
                if not isinstance(number, int | float) or abs(number) > limit:
                    raise NeedsIsolation
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: object, *args: object, **kwargs: object) -> Any:
        """Call a function if its cost is known to be bounded; count macro calls."""
        if type(__obj) is BuiltinMethodType:
            check_method(__obj, args)
            kwargs.pop("_loop_vars", None)  # for functions that take the context
            kwargs.pop("_block_vars", None)
            return __obj(*args, **kwargs)
        __self.step()
        __self._check_call(__obj)
        return super().call(__context, __obj, *args, **kwargs)

    def _check_call(self, function: object) -> None:
        if isinstance(function, MethodType):
            if not isinstance(function.__self__, LoopContext):
                raise NeedsIsolation
        elif not isinstance(function, Macro | LoopContext | Undefined) and function not in (
            safe_range,
            self.globals["namespace"],
            self.globals["raise_exception"],
        ):
            raise NeedsIsolation

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        for loop in source.find_all(nodes.For):
            loop.body.insert(0, nodes.ExprStmt(nodes.EnvironmentAttribute("step()"), lineno=loop.lineno))
        source.set_environment(self)
        return super()._generate(source, *args, **kwargs)


class _Generator(CodeGenerator):
    """Generate method calls of the environment for ``+`` and ``~``."""

    def visit_Add(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Write ``environment.add(a, b, c)`` for ``a + b + c``."""
        operands: list[nodes.Node] = []
        left: nodes.Expr = node
        while isinstance(left, nodes.Add):
            operands.append(left.right)
            left = left.left
        self._write_call("add", [left, *reversed(operands)], frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """Write ``environment.concat_values(a, b)`` for ``a ~ b``."""
        self._write_call("concat_values", node.nodes, frame)

    def _write_call(self, name: str, operands: Iterable[nodes.Node], frame: Frame) -> None:
        self.write(f"environment.{name}(")
        for operand in operands:
            self.visit(operand, frame)
            self.write(", ")
        self.write(")")


InProcessEnvironment.code_generator_class = _Generator


def is_supported(tree: nodes.Template) -> bool:
    """Return whether each operation of a parsed template is bounded, or checked at run time."""
    transient = {id(operand.expr) for operand in tree.find_all(nodes.Operand)}
    transient |= {id(loop.iter) for loop in tree.find_all(nodes.For)}
    return all(_is_supported(node, id(node) in transient) for node in _walk(tree))


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def _is_supported(node: nodes.Node, is_transient: bool) -> bool:
    """Return whether a node is supported.

    Args:
        node: node of a parsed template.
        is_transient: whether its value is only compared or iterated, never stored.
    """
    if type(node).__name__ not in _NODES:
        return False
    if isinstance(node, nodes.Filter | nodes.Call) and (node.dyn_args or node.dyn_kwargs):
        return False
    if isinstance(node, nodes.Name):
        return node.name not in ("varargs", "kwargs")
    if isinstance(node, nodes.Filter):
        return _is_supported_filter(node)
    # Containers of variables can be nested so that their string is exponentially longer than the source.
    if isinstance(node, nodes.List | nodes.Dict) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
        return is_transient or all(isinstance(item, nodes.Const) for item in _leaves(node))
    return True


def _leaves(node: nodes.Node) -> Iterator[nodes.Node]:
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.List | nodes.Dict | nodes.Tuple | nodes.Pair):
            yield from _leaves(child)
        else:
            yield child


def _is_supported_filter(node: nodes.Filter) -> bool:
    arguments = [*node.args, *(keyword.value for keyword in node.kwargs)]
    if node.name == "tojson":  # the indentation
        return all(isinstance(item, nodes.Const) and item.value in range(17) for item in arguments)
    if node.name == "map" and node.args:
        first = node.args[0]
        return isinstance(first, nodes.Const) and first.value in _FILTERS - {"map", "tojson"}
    return node.name in _FILTERS
