"""Formats: every good row by hand, and every kind of bad row with what its message must say."""

from collections.abc import Callable
from typing import Any

import pytest

from xft.data import formats
from xft.errors import DataError
from xft.registry import resolve
from xft.types import Message, Row


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str, trained: bool = True) -> Message:
    return Message("assistant", text, trained)


SYSTEM = Message("system", "Be brief.")

GOOD: list[tuple[str, Row, Any]] = [
    ("alpaca", {"instruction": "Add.", "input": "1 2", "output": "3"}, [user("Add.\n1 2"), answer("3")]),
    ("alpaca", {"instruction": "Add.", "input": "", "output": "3"}, [user("Add."), answer("3")]),
    ("alpaca", {"instruction": "Add.", "input": None, "output": "3"}, [user("Add."), answer("3")]),
    ("alpaca", {"instruction": "Add.", "output": "3", "source": 7}, [user("Add."), answer("3")]),
    (
        "alpaca",
        {"instruction": "Add.", "input": "1 2", "output": "3", "system": "Be brief."},
        [SYSTEM, user("Add.\n1 2"), answer("3")],
    ),
    (
        "openai",
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello", "weight": 0},
                {"role": "user", "content": "Bye"},
                {"role": "assistant", "content": "See you", "weight": 1},
            ]
        },
        [SYSTEM, user("Hi"), answer("Hello", False), user("Bye"), answer("See you")],
    ),
    (
        "openai",
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "{}"}]},
        [user("Hi"), Message("tool", "{}")],
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        [user("Hi"), answer("Hello")],
    ),
    (
        "sharegpt",
        {
            "system": "Be brief.",
            "conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello"}],
        },
        [SYSTEM, user("Hi"), answer("Hello")],
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"}]},
        [SYSTEM, user("Hi")],
    ),
    (
        "xtuner",
        {
            "conversation": [
                {"system": "Be brief.", "input": "Hi", "output": "Hello", "output_with_loss": False},
                {"input": "Bye", "output": "See you"},
            ]
        },
        [SYSTEM, user("Hi"), answer("Hello", False), user("Bye"), answer("See you")],
    ),
    (
        "xtuner",
        {"conversation": [{"system": "", "input": "Hi", "output": "Hello", "output_with_loss": True}]},
        [user("Hi"), answer("Hello")],
    ),
    ("text", {"text": "Once upon a time", "url": "x"}, "Once upon a time"),
]


@pytest.mark.parametrize(("name", "row", "expected"), GOOD)
def test_good_row_becomes_the_turns_that_it_says(name: str, row: Row, expected: Any) -> None:
    assert resolve("format", name)(row) == expected


@pytest.mark.parametrize(
    ("function", "renamed", "row", "expected"),
    [
        (
            formats.alpaca,
            {"instruction": "q", "input": "more", "output": "a", "system": "s"},
            {"q": "Add.", "more": "1 2", "a": "3", "s": "Be brief."},
            [SYSTEM, user("Add.\n1 2"), answer("3")],
        ),
        (formats.openai, {"messages": "m"}, {"m": [{"role": "user", "content": "Hi"}]}, [user("Hi")]),
        (
            formats.sharegpt,
            {"conversations": "c", "system": "s"},
            {"s": "Be brief.", "c": [{"from": "human", "value": "Hi"}]},
            [SYSTEM, user("Hi")],
        ),
        (
            formats.xtuner,
            {"conversation": "c"},
            {"c": [{"input": "Hi", "output": "Hello"}]},
            [user("Hi"), answer("Hello")],
        ),
        (formats.text, {"text": "content"}, {"content": "Once"}, "Once"),
    ],
)
def test_columns_can_be_renamed(
    function: Callable[..., Any], renamed: dict[str, str], row: Row, expected: Any
) -> None:
    assert function(row, **renamed) == expected


BAD: list[tuple[str, Row, list[str]]] = [
    # alpaca
    ("alpaca", {"output": "3"}, ["instruction", "missing", "'output'", "expected text"]),
    ("alpaca", {"instruction": "Add."}, ["output", "missing", "'instruction'", "expected text"]),
    ("alpaca", {"instruction": "Add.", "output": None}, ["output", "is null", "expected text"]),
    ("alpaca", {"instruction": 7, "output": "3"}, ["instruction", "7", "int", "expected text"]),
    ("alpaca", {"instruction": "Add.", "output": ["3"]}, ["output", "['3']", "list", "expected text"]),
    (
        "alpaca",
        {"instruction": "Add.", "input": 12, "output": "3"},
        ["input", "12", "int", "expected text"],
    ),
    (
        "alpaca",
        {"instruction": "Add.", "output": "3", "system": {"a": 1}},
        ["system", "{'a': 1}", "dict", "expected text"],
    ),
    ("alpaca", {}, ["instruction", "missing", "no columns", "expected text"]),
    # openai
    ("openai", {"text": "x"}, ["messages", "missing", "'text'", "expected a list of turns"]),
    ("openai", {"messages": []}, ["messages", "got []", "expected a list of turns"]),
    ("openai", {"messages": None}, ["messages", "got None", "expected a list of turns"]),
    ("openai", {"messages": "Hi"}, ["messages", "got 'Hi'", "expected a list of turns"]),
    ("openai", {"messages": ["Hi"]}, ["messages[1]", "got 'Hi'", "expected an object"]),
    ("openai", {"messages": [{"content": "Hi"}]}, ["messages[1].role", "missing", "'content'"]),
    (
        "openai",
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "bot", "content": "Hello"}]},
        ["messages[2].role", "got 'bot'", "'assistant', 'developer', 'function', 'system', 'tool', 'user'"],
    ),
    (
        "openai",
        {"messages": [{"role": "user", "content": None}]},
        ["messages[1].content", "is null", "expected text"],
    ),
    (
        "openai",
        {"messages": [{"role": "user", "content": {"text": "Hi"}}]},
        ["messages[1].content", "got {'text': 'Hi'}", "dict", "expected text"],
    ),
    # sharegpt
    ("sharegpt", {"system": "x"}, ["conversations", "missing", "'system'", "expected a list of turns"]),
    ("sharegpt", {"conversations": {}}, ["conversations", "got {}", "expected a list of turns"]),
    ("sharegpt", {"conversations": [None]}, ["conversations[1]", "got None", "expected an object"]),
    ("sharegpt", {"conversations": [{"value": "Hi"}]}, ["conversations[1].from", "missing", "'value'"]),
    ("sharegpt", {"conversations": [{"from": "human"}]}, ["conversations[1].value", "missing", "'from'"]),
    (
        "sharegpt",
        {"conversations": [{"from": "humn", "value": "Hi"}]},
        ["conversations[1].from", "got 'humn'", "did you mean 'human'?"],
    ),
    (
        "sharegpt",
        {"system": 1, "conversations": [{"from": "human", "value": "Hi"}]},
        ["system", "got 1", "int", "expected text"],
    ),
    # xtuner
    ("xtuner", {"input": "Hi"}, ["conversation", "missing", "'input'", "expected a list of turns"]),
    ("xtuner", {"conversation": [["Hi"]]}, ["conversation[1]", "got ['Hi']", "expected an object"]),
    ("xtuner", {"conversation": [{"output": "Hello"}]}, ["conversation[1].input", "missing", "'output'"]),
    ("xtuner", {"conversation": [{"input": "Hi"}]}, ["conversation[1].output", "missing", "'input'"]),
    (
        "xtuner",
        {"conversation": [{"input": "Hi", "output": "Hello"}, {"system": "x", "input": "", "output": ""}]},
        ["conversation[2].system", "only the first turn may have one"],
    ),
    (
        "xtuner",
        {"conversation": [{"input": "Hi", "output": 3}]},
        ["conversation[1].output", "got 3", "int"],
    ),
    # text
    ("text", {"content": "x"}, ["text", "missing", "'content'", "expected text"]),
    ("text", {"text": None}, ["text", "is null", "expected text"]),
    ("text", {"text": 1.5}, ["text", "got 1.5", "float", "expected text"]),
]


@pytest.mark.parametrize(("name", "row", "said"), BAD)
def test_bad_row_is_refused_with_field_got_and_expected(name: str, row: Row, said: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        resolve("format", name)(row)
    message = str(caught.value)
    assert message.startswith("field ")
    assert [each for each in said if each not in message] == []


def test_docstring_example_of_alpaca_is_true() -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert [each.content for each in formats.alpaca(row)] == ["Add.\n1 2", "3"]
