"""Environments: functions that respond to the model between its turns, such as a tool.

An environment is a function ``step(messages, row)``. It gets the messages since the prompt, the last of which is the turn
of the model, and all columns of the row. It returns the messages that the model answers next. An episode ends if the
environment returns ``None`` or no messages, after ``rollout.max_turns`` turns of the model, or with a turn that is cut at
``rollout.max_new_tokens``. A custom environment needs no registration: set its dotted path,
``environment='my_package.step'``.
"""

import ast
import json
import operator
import re
from collections.abc import Callable, Sequence
from typing import Literal

from xft.registry import register
from xft.types import Message, Row

Environment = Callable[[Sequence[Message], Row], Sequence[Message] | None]

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
MAX_EXPRESSION = 200
"""Maximum number of characters of an expression."""


@register("environment", "calculator")
def calculator(
    messages: Sequence[Message], row: Row, /, role: Literal["tool", "user"] = "tool"
) -> list[Message] | None:
    """Compute the expressions in the calls of the model; a turn without a call ends the episode.

    A call is ``<tool_call>{"name": "calculator", "arguments": {"expression": "12 * 7"}}</tool_call>``, as Qwen and
    Hermes models write it. The response to a call that cannot be computed is the error.

    Args:
        messages: messages since the prompt.
        row: columns of the row.
        role: role of the results; ``user`` for templates without tools.
    """
    calls = _CALL.findall(messages[-1].content)
    return [Message(role, _answer(call)) for call in calls] or None


def _answer(call: str) -> str:
    try:
        expression = json.loads(call)["arguments"]["expression"]
        if len(expression) > MAX_EXPRESSION:
            return f"error: the expression has more than {MAX_EXPRESSION} characters"
        return f"{_compute(ast.parse(expression.strip(), mode='eval').body):.12g}"
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        SyntaxError,
        ArithmeticError,
        RecursionError,
    ) as error:
        return f"error: {type(error).__name__}: {error}"  # fmt: skip


def _compute(node: ast.expr) -> float:
    """Compute an expression of numbers, the four operations, ``//``, ``%`` and signs; nothing else is executed."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_compute(node.left), _compute(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _compute(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    raise ValueError("expected numbers and + - * / // %")
