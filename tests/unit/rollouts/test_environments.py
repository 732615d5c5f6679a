"""The calculator: what it computes, and that it executes nothing else."""

import json

import pytest

from xft.rollouts import calculator
from xft.types import Message


def call(expression: object) -> Message:
    arguments = {"name": "calculator", "arguments": {"expression": expression}}
    return Message("assistant", f"Let me see. <tool_call>{json.dumps(arguments)}</tool_call>")


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12 * 7", "84"),
        (" -(2 + 3.5) / 2", "-2.75"),
        ("17 // 5 + 17 % 5", "5"),
        ("1 / 3", "0.333333333333"),
    ],
)
def test_expressions_are_computed(expression: str, result: str) -> None:
    assert calculator([Message("user", "?"), call(expression)], {}) == [Message("tool", result)]
    assert calculator([call(expression)], {}, role="user") == [Message("user", result)]


@pytest.mark.parametrize(
    "expression",
    ["1 / 0", "2 ** 9", "__import__('os')", "a", "", "(", "[1]", "1" * 300, None, 5, "True", "-" * 190 + "1e999"],
)  # fmt: skip
def test_an_expression_that_cannot_be_computed_is_an_error_for_the_model(expression: object) -> None:
    (reply,) = calculator([call(expression)], {}) or []
    assert reply.content.startswith("error") or reply.content in ("inf", "-inf")


def test_a_turn_without_a_call_ends_the_episode() -> None:
    assert calculator([call("1 + 1"), Message("tool", "2"), Message("assistant", "It is 2.")], {}) is None
    (reply,) = calculator([Message("assistant", "<tool_call>no json</tool_call>")], {}) or []
    assert reply.content.startswith("error")
