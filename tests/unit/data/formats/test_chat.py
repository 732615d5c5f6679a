"""Formats of conversations: accepted rows, and the parts of the errors of invalid rows."""

from collections.abc import Callable
from typing import Any

import pytest

from xft.data import formats
from xft.errors import DataError
from xft.registry import resolve
from xft.types import Conversation, Message, Row


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
def test_format_valid_row_returns_messages(name: str, row: Row, expected: Any) -> None:
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
def test_format_renamed_columns_are_read(
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
        ["conversation[2].system", "only in the first turn"],
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


@pytest.mark.parametrize(("name", "row", "parts"), BAD)
def test_format_invalid_row_raises_field_got_and_expected(name: str, row: Row, parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        resolve("format", name)(row)
    message = str(caught.value)
    assert message.startswith(f"field {parts[0]}: ")
    assert caught.value.key == parts[0]
    assert [part for part in parts if part not in message] == []


def test_docstring_example_of_alpaca_is_true() -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert [message.content for message in formats.alpaca(row)] == ["Add.\n1 2", "3"]


# Datasets of XTuner


def test_oasst1_keeps_headings_and_a_last_question() -> None:
    text = "### Human: How?### Assistant: Steps:\n### First\nDo it.\n### Human: And?### Assistant: Done.### Human: Ok"
    assert formats.oasst1({"text": text}) == [
        Message("user", "How?"),
        Message("assistant", "Steps:\n### First\nDo it.", True),
        Message("user", "And?"),
        Message("assistant", "Done.", True),
        Message("user", "Ok"),
    ]


@pytest.mark.parametrize("text", ["", "Hi", "Hi ### Human: x### Assistant: y", "Human: x Assistant: y"])
def test_oasst1_refuses_text_outside_of_turns(text: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.oasst1({"text": text})
    assert caught.value.key == "text"
    assert caught.value.got == text


TURNS = [
    {"from": "system", "value": "Be brief."},
    {"from": "user", "value": "It's?"},
    {"from": "assistant", "value": "a"},
]


@pytest.mark.parametrize("value", [TURNS, repr(TURNS), str(TURNS).replace('"It\'s?"', "'It\\'s?'"), None])
def test_msagent_reads_literals(value: Any) -> None:
    import json

    row: Row = {"conversations": json.dumps(TURNS) if value is None else value}
    assert formats.msagent(row) == [SYSTEM, Message("user", "It's?"), Message("assistant", "a", True)]


@pytest.mark.parametrize("value", ["__import__('os').getcwd()", "[", "[open('x')]", "", "7", "[" * 3000])
def test_msagent_code_raises(value: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.msagent({"conversations": value})
    assert caught.value.key == "conversations"


def test_wizardlm_keeps_what_xtuner_leaves_out() -> None:
    turns = [{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}]
    assert formats.wizardlm({"conversations": turns}) == [
        Message("assistant", "a", True),
        Message("user", "b"),
    ]


def test_llava_question_with_a_mark_and_no_image_raises() -> None:
    """An answer may speak of ``<image>``, as code for SVG does; a question with it stands for a picture."""
    question, answer = {"from": "human", "value": "Draw."}, {"from": "gpt", "value": "<image>"}
    assert [message.content for message in formats.llava({"conversations": [question, answer]})] == [
        "Draw.",
        "<image>",
    ]
    shown = {"from": "human", "value": "<image>\nWhat is it?"}
    with pytest.raises(DataError) as caught:
        formats.llava({"conversations": [shown, answer]})
    assert caught.value.key == "conversations[1]"
    assert caught.value.got == "<image>\nWhat is it?"


EXCHANGE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def test_openai_reads_variables_of_the_template() -> None:
    documents = [{"title": "a", "text": "b", "id": 1}]
    kwargs = {"enable_thinking": False, "unused": None}
    value = formats.openai({"messages": EXCHANGE, "chat_template_kwargs": kwargs, "documents": documents})
    assert isinstance(value, Conversation)
    assert value.template_kwargs == {"enable_thinking": False, "documents": documents}
    assert formats.openai({"messages": EXCHANGE, "chat_template_kwargs": None, "documents": []}) == [
        user("Hi"),
        answer("Hello"),
    ]


@pytest.mark.parametrize(
    ("column", "value", "key"),
    [
        ("chat_template_kwargs", {"messages": []}, "chat_template_kwargs.messages"),
        ("chat_template_kwargs", "{}", "chat_template_kwargs"),
        ("documents", "a", "documents"),
        ("documents", ["a"], "documents"),
    ],
)
def test_openai_variables_invalid_raise(column: str, value: Any, key: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.openai({"messages": EXCHANGE, column: value})
    assert caught.value.key == key
