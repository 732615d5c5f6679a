"""An example row of each format, and the expected result.

``xft list formats`` prints the rows; a test compares each result with that of the format.
"""

from dataclasses import dataclass, field
from typing import Any

from xft.data.formats.presets import ARXIV
from xft.data.formats.single_turn import COLORIST, SQL
from xft.types import Conversation, Message, Messages, PreferencePair, Row, ToolCall, UnpairedExample


@dataclass(frozen=True)
class Example:
    """An example row of a format.

    Attributes:
        row: accepted row.
        result: expected value of the format.
        arguments: required arguments of the format.
    """

    row: Row
    result: Messages | Conversation | PreferencePair | UnpairedExample | str
    arguments: dict[str, Any] = field(default_factory=dict)


def _user(text: str) -> Message:
    return Message("user", text)


def _assistant(text: str) -> Message:
    return Message("assistant", text, is_target=True)


_BRIEF = Message("system", "Be brief.")
_HELLO = [_user("Hi"), _assistant("Hello")]
_SKY = [_user("Is the sky blue?")]
_PAIR = PreferencePair(_SKY, [_assistant("Yes.")], [_assistant("No.")])
_WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
_TOOLS = ({"type": "function", "function": _WEATHER},)
_CALL = ToolCall("weather", {"city": "Oslo"})


def _weather_conversation(call: ToolCall) -> Conversation:
    turns = [
        _user("Rain in Oslo?"),
        Message("assistant", "", is_target=True, tool_calls=(call,)),
        Message("tool", "dry", tool_call_id=call.id),
        _assistant("No."),
    ]
    return Conversation(turns, _TOOLS)


_OPENAI_ROW = {
    "messages": [
        {"role": "user", "content": "Rain in Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "dry"},
        {"role": "assistant", "content": "No."},
    ],
    "tools": list(_TOOLS),
}
_SHAREGPT_ROW = {
    "conversations": [
        {"from": "human", "value": "Rain in Oslo?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
        {"from": "observation", "value": "dry"},
        {"from": "gpt", "value": "No."},
    ],
    "tools": [_WEATHER],
}
_ORPO_ROW = {
    "chosen": [{"role": "user", "content": "Is the sky blue?"}, {"role": "assistant", "content": "Yes."}],
    "rejected": [{"role": "user", "content": "Is the sky blue?"}, {"role": "assistant", "content": "No."}],
}

EXAMPLES: dict[str, Example] = {
    "alpaca": Example(
        {"instruction": "Add.", "input": "1 2", "output": "3"}, [_user("Add.\n1 2"), _assistant("3")]
    ),
    "alpaca_preference": Example(
        {"instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "12"},
        PreferencePair([_user("Add.\n1 2")], [_assistant("3")], [_assistant("12")]),
    ),
    "alpaca_zh": Example(
        {"instruction_zh": "相加。", "input_zh": "1 2", "output_zh": "3"},
        [_user("相加。\n1 2"), _assistant("3")],
    ),
    "arxiv": Example(
        {"abstract": "We count apples.", "title": "On Apples"},
        [Message("system", ARXIV), _user("We count apples."), _assistant("On Apples")],
    ),
    "auto": Example({"question": "Hi", "answer": "Hello"}, _HELLO),
    "code_alpaca": Example(
        {"prompt": "Print 1 in Python.", "completion": "print(1)"},
        [_user("Print 1 in Python."), _assistant("print(1)")],
    ),
    "colors": Example(
        {"description": "Pure Black: the darkest shade.", "color": "#000000"},
        [Message("system", COLORIST), _user("Pure Black: the darkest shade."), _assistant("#000000")],
    ),
    "columns": Example(
        {"title": "Sky", "body": "Is it blue?", "reply": "Yes."},
        [_user("Sky: Is it blue?"), _assistant("Yes.")],
        {"user": "{title}: {body}", "assistant": "reply"},
    ),
    "crime_kg_assistant": Example(
        {"input": "盗窃罪怎么判？", "output": "依照刑法第二百六十四条。"},
        [_user("盗窃罪怎么判？"), _assistant("依照刑法第二百六十四条。")],
    ),
    "intel_orca_dpo": Example(
        {"system": "Be brief.", "question": "Is the sky blue?", "chosen": "Yes.", "rejected": "No."},
        PreferencePair([_BRIEF, *_SKY], [_assistant("Yes.")], [_assistant("No.")]),
    ),
    "kto": Example(
        {"prompt": "Is the sky blue?", "completion": "No.", "label": False},
        UnpairedExample(_SKY, [_assistant("No.")], label=False),
    ),
    "law_reference": Example(
        {"question": "盗窃罪怎么判？", "answer": "依照刑法。", "reference": ["刑法第二百六十四条"]},
        [_user("盗窃罪怎么判？"), _assistant("依照刑法。")],
    ),
    "llava": Example(
        {"id": "1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        _HELLO,
    ),
    "medical": Example(
        {"instruction": "咳嗽怎么办？", "input": "", "output": "多喝水。"},
        [_user("咳嗽怎么办？"), _assistant("多喝水。")],
    ),
    "msagent": Example(
        {"conversations": "[{'from': 'user', 'value': 'Hi'}, {'from': 'assistant', 'value': 'Hello'}]"},
        _HELLO,
    ),
    "oasst1": Example({"text": "### Human: Hi### Assistant: Hello"}, _HELLO),
    "openai": Example(_OPENAI_ROW, _weather_conversation(ToolCall("weather", {"city": "Oslo"}, "1"))),
    "openorca": Example(
        {"system_prompt": "Be brief.", "question": "Hi", "response": "Hello"}, [_BRIEF, *_HELLO]
    ),
    "orpo_dpo_mix_40k": Example(_ORPO_ROW, _PAIR),
    "preference": Example({"prompt": "Is the sky blue?", "chosen": "Yes.", "rejected": "No."}, _PAIR),
    "pretrain": Example({"text": "Once upon a time"}, "Once upon a time"),
    "prompt": Example({"prompt": "Hi", "reference": "Hello"}, [_user("Hi")]),
    "prompt_completion": Example(
        {
            "prompt": [{"role": "user", "content": "Hi"}],
            "completion": [{"role": "assistant", "content": "Hello"}],
        },
        _HELLO,
    ),
    "sharegpt": Example(_SHAREGPT_ROW, _weather_conversation(_CALL)),
    "sharegpt_preference": Example(
        {
            "conversations": [{"from": "human", "value": "Is the sky blue?"}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
        _PAIR,
    ),
    "sql": Example(
        {
            "context": "CREATE TABLE head (age INTEGER)",
            "question": "How many?",
            "answer": "SELECT COUNT(*) FROM head",
        },
        [
            Message("system", SQL),
            _user("CREATE TABLE head (age INTEGER)\nHow many?"),
            _assistant("SELECT COUNT(*) FROM head"),
        ],
    ),
    "stack_exchange": Example(
        {"question": "How do I leave vim?", "response": ":q"},
        [_user("How do I leave vim?"), _assistant(":q")],
    ),
    "text": Example({"text": "Once upon a time"}, "Once upon a time"),
    "tiny_codes": Example(
        {"prompt": "Print 1 in Python.", "response": "print(1)"},
        [_user("Print 1 in Python."), _assistant("print(1)")],
    ),
    "wizardlm": Example(
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, _HELLO
    ),
    "xtuner": Example(
        {"conversation": [{"system": "Be brief.", "input": "Hi", "output": "Hello"}]}, [_BRIEF, *_HELLO]
    ),
}
"""Format name to example."""
