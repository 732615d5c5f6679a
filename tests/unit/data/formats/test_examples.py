"""Every format: its example row, real data of the field, and any JSON value at all."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xft.data import formats
from xft.data.formats import EXAMPLES
from xft.errors import DataError
from xft.registry import list_registered, resolve
from xft.types import ROLES, Conversation, Message, PreferencePair, Row, ToolCall, UnpairedExample

XTUNER = {
    *("alpaca", "alpaca_zh", "oasst1", "openai", "code_alpaca", "colors", "crime_kg_assistant"),
    *("law_reference", "medical", "msagent", "openorca", "pretrain", "sql", "stack_exchange"),
    *("tiny_codes", "wizardlm", "arxiv", "llava", "intel_orca_dpo", "orpo_dpo_mix_40k"),
}


def test_every_format_has_an_example() -> None:
    assert set(EXAMPLES) == set(list_registered("format"))
    assert set(EXAMPLES) >= XTUNER


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example_returns_expected_result(name: str) -> None:
    example = EXAMPLES[name]
    before = pickle.dumps(example.row)
    assert resolve("format", name)(example.row, **example.arguments) == example.result
    assert pickle.dumps(example.row) == before, "a format must not change the row"


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example_round_trips_through_json(name: str) -> None:
    row = EXAMPLES[name].row
    assert json.loads(json.dumps(row)) == json.loads(json.dumps(row, ensure_ascii=False))


def conversation(value: Sequence[Message]) -> None:
    assert value
    for each in value:
        assert isinstance(each, Message)
        assert each.role in ROLES
        assert all(isinstance(text, str) for text in (each.content, each.reasoning, each.name))
        assert isinstance(each.is_target, bool)
        assert each.role == "assistant" or not (each.is_target or each.reasoning or each.tool_calls)
        for call in each.tool_calls:
            assert isinstance(call, ToolCall)
            assert isinstance(call.arguments, dict)
            assert call.name


def valid(value: Any) -> None:
    """What a format may return."""
    if isinstance(value, str):
        return
    for tool in getattr(value, "tools", ()):
        assert tool["type"] == "function"
        assert isinstance(tool["function"]["name"], str)
    if isinstance(value, (PreferencePair, UnpairedExample)):
        answers = (value.chosen, value.rejected) if isinstance(value, PreferencePair) else (value.answer,)
        conversation(value.prompt)
        assert not any(each.is_target for each in value.prompt)
        assert value.prompt[-1].role in ("user", "tool")
        for each in answers:
            conversation(each)
            assert each[0].role == "assistant"
    else:
        conversation(value.messages if isinstance(value, Conversation) else value)


KEYS = sorted(
    {
        *("from", "value", "role", "content", "weight", "loss", "reasoning_content", "tool_calls", "name"),
        *("function_call", "tool_call_id", "type", "text", "function", "arguments", "id", "parameters"),
        *("input", "output", "system", "output_with_loss", "thinking"),
    }
)
WORDS = ["user", "assistant", "system", "tool", "human", "gpt", "function_call", "observation", "", "true"]
TEXTS = [
    *WORDS,
    *("<think>a</think>b", "<think>", "### Human: a### Assistant: b", "[" * 2000, "{}", '{"name": "f"}'),
    *('{"a": 1, "a": 2}', "[NaN]", "9" * 5000, "<nooutput>", "name: b", "{{x}}", "\ud800", "f(1)"),
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats()
    | st.sampled_from(TEXTS)
    | st.text(max_size=5)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=8,
)
SPOKEN = st.fixed_dictionaries(
    {
        **dict.fromkeys(("from", "role"), st.sampled_from(WORDS)),
        **dict.fromkeys(("value", "content"), st.sampled_from(TEXTS)),
    }
)
BESIDE = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2)
TURNS = st.lists(st.builds(lambda turn, beside: {**turn, **beside}, SPOKEN, BESIDE), max_size=3)


@st.composite
def rows(draw: st.DrawFn, name: str) -> Row:
    """The example row of a format, with some of its values replaced by anything."""
    row = dict(EXAMPLES[name].row)
    extra = ["system", "tools", "history", "functions", "label", "kto_tag", "messages"]
    for column in draw(st.lists(st.sampled_from([*row, *extra]), min_size=1, max_size=3, unique=True)):
        row[column] = draw(VALUES | TURNS)
    if draw(st.booleans()):
        del row[draw(st.sampled_from(sorted(row)))]
    return row


@pytest.mark.parametrize("name", sorted(EXAMPLES))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_format_any_row_returns_valid_value_or_data_error(name: str, data: st.DataObject) -> None:
    row = data.draw(rows(name))
    try:
        valid(resolve("format", name)(row, **EXAMPLES[name].arguments))
    except DataError as error:
        message = str(error)
        assert message.startswith(("field ", "the chosen and the rejected", "data.format: "))
        assert "\n" not in message
        assert len(message) < 1200


REAL = [
    ("alpaca_en_demo.json", formats.alpaca, 999, 999),
    ("alpaca_zh_demo.json", formats.alpaca, 1000, 1000),
    ("identity.json", formats.alpaca, 91, 91),
    ("glaive_toolcall_en_demo.json", formats.sharegpt, 300, 746 + 211),
    ("dpo_en_demo.json", formats.sharegpt_preference, 300, 300),
]


def trained(value: Any) -> int:
    if isinstance(value, PreferencePair):
        value = value.chosen
    return sum(each.is_target for each in (value.messages if isinstance(value, Conversation) else value))


@pytest.mark.parametrize(("name", "function", "count", "answers"), REAL)
def test_every_row_of_real_data_passes(
    shared: Path, name: str, function: Any, count: int, answers: int
) -> None:
    """Rows counted with ``jq length``; answers by counting ``"from": "gpt"`` and ``function_call``."""
    values = [function(row) for row in json.loads((shared / "data" / name).read_text(encoding="utf-8"))]
    for each in values:
        valid(each)
    assert len(values) == count
    assert sum(map(trained, values)) == answers


def test_every_row_of_real_text_passes(shared: Path) -> None:
    lines = (shared / "data" / "c4_demo.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [formats.text(json.loads(line)) for line in lines]
    assert len(texts) == 300
    assert texts[0].startswith("Don’t think you need all the bells and whistles?")


def test_calls_of_real_data_are_those_that_its_text_says(shared: Path) -> None:
    """A second way: calls, results and functions are taken out of the raw rows by hand."""
    data = json.loads((shared / "data" / "glaive_toolcall_en_demo.json").read_text(encoding="utf-8"))
    count = 0
    for row in data:
        value = formats.sharegpt(row)
        messages = value.messages if isinstance(value, Conversation) else value
        tools = value.tools if isinstance(value, Conversation) else ()
        assert [each["function"] for each in tools] == json.loads(row["tools"])
        for turn, message in zip(row["conversations"], messages, strict=True):
            if turn["from"] == "function_call":
                [call] = message.tool_calls
                assert {"name": call.name, "arguments": call.arguments} == json.loads(turn["value"])
                assert (message.role, message.content) == ("assistant", "")
                count += 1
            else:
                role = {"human": "user", "gpt": "assistant", "observation": "tool"}[turn["from"]]
                assert (message.role, message.content, message.tool_calls) == (role, turn["value"], ())
    assert count == 211


def test_the_identity_rows_can_be_filled_in(shared: Path) -> None:
    data = json.loads((shared / "data" / "identity.json").read_text(encoding="utf-8"))
    left = [formats.alpaca(row)[-1].content for row in data]
    filled = [formats.alpaca(row, fill={"name": "Ada", "author": "Acme"})[-1].content for row in data]
    assert filled == [each.replace("{{name}}", "Ada").replace("{{author}}", "Acme") for each in left]
    assert not any("{{" in each for each in filled)
    with pytest.raises(DataError) as caught:
        [formats.alpaca(row, fill={"name": "Ada"}) for row in data]
    assert caught.value.key == "output"
    assert caught.value.got == "{{author}}"
