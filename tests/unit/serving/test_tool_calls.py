"""Tool calls: formats of chat templates, parsing of streamed answers."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from xft.registry import resolve
from xft.serving.server.tool_calls import ParsedCall, ToolCallFormat, ToolCallParser
from xft.templates import SOURCES, BoundTemplate
from xft.types import Message, ToolCall

CALL_TOKENS = ("<|action_start|>", "<|plugin|>", "<|action_end|>")
STOPS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end|>",
    "<eoa>",
    "<eom>",
    "<|EOT|>",
    "<｜end▁of▁sentence｜>",
    "<|end_of_sentence|>",
    "[|endofturn|]",
    "<|end_of_turn|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|user|>",
    "<|observation|>",
    "<seed:eos>",
)
HERMES = ToolCallFormat("<tool_call>", "</tool_call>")
BARE = ToolCallFormat("", "")
FORMATS = {
    "qwen2_5_chat": HERMES,
    "qwen3": HERMES,
    "granite4": HERMES,
    "phi4_mini": ToolCallFormat("<|tool_call|>", "<|/tool_call|>"),
    "llama3_1_chat": BARE,
    "internlm2_chat": ToolCallFormat("<|action_start|><|plugin|>", "<|action_end|>"),
}


def parse(form: ToolCallFormat, pieces: Sequence[str], *names: str) -> list[Any]:
    """Feed pieces; return the joined texts and the calls, as (name, arguments) pairs, in order."""
    parser = ToolCallParser(form, names or ("f", "get_weather"))
    results: list[Any] = []
    for output in [*(output for piece in pieces for output in parser.feed(piece)), *parser.finish()]:
        if isinstance(output, ParsedCall):
            results.append((output.name, json.loads(output.arguments)))
        elif results and isinstance(results[-1], str):
            results[-1] += output
        else:
            results.append(output)
    return results


def bind(name: str, make_byte_tokenizer: Callable[..., Any]) -> BoundTemplate:
    bound: BoundTemplate = resolve("template", name)().bind(
        make_byte_tokenizer(specials=(*CALL_TOKENS, *STOPS))
    )
    return bound


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_format_of_each_library_template(name: str, make_byte_tokenizer: Callable[..., Any]) -> None:
    template = bind(name, make_byte_tokenizer)
    assert ToolCallFormat.of(template) == FORMATS.get(name)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_rendered_call_is_parsed_back(name: str, make_byte_tokenizer: Callable[..., Any]) -> None:
    """What the template writes for a call in training is what the parser reads from an answer."""
    template = bind(name, make_byte_tokenizer)
    arguments = {"city": "Zürich", "tags": ["</tool_call>", '"<|action_end|>'], "deep": {"x": None}}
    call = Message("assistant", "", True, tool_calls=(ToolCall("get_weather", arguments),))
    turns = [Message("user", "Weather?"), call, Message("tool", "20")]
    text = next(segment.text for segment in template.segments(turns) if segment.is_target)
    answer = text.removesuffix(template.end_of_turn).rpartition("</think>")[2].strip()
    for size in (1, 3, len(answer)):
        pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
        assert parse(FORMATS[name], pieces) == [("get_weather", arguments)]


def test_special_tokens_of_the_format_are_kept(make_byte_tokenizer: Callable[..., Any]) -> None:
    template = bind("internlm2_chat", make_byte_tokenizer)
    ids = FORMATS["internlm2_chat"].special_ids(template.tokenizer)
    assert sorted(ids) == sorted(map(template.tokenizer.convert_tokens_to_ids, CALL_TOKENS))
    assert HERMES.special_ids(template.tokenizer) == []


CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("form", "answer", "expected"),
    [
        (HERMES, f"I look.\n{CALL}", ["I look.", ("f", {"a": 1})]),
        (HERMES, f"{CALL}\n{CALL}", [("f", {"a": 1}), ("f", {"a": 1})]),
        (HERMES, f"{CALL}\nDone.", [("f", {"a": 1}), "\nDone."]),
        (HERMES, "a < b <tool <tool_cal", ["a < b <tool <tool_cal"]),
        (HERMES, "x\n<tool_call>\n{not json}\n</tool_call>", ["x\n<tool_call>\n{not json}\n</tool_call>"]),
        (HERMES, '<tool_call>{"name": "f", "arg', ['<tool_call>{"name": "f", "arg']),
        (HERMES, '<tool_call>{"name": "f", "arguments": {}}', [("f", {})]),
        (HERMES, '<tool_call>{"name": 1, "arguments": {}}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>', None),
        (HERMES, "<tool_call>" + "[" * 100_000, None),
        (BARE, ' {"name": "f", "parameters": {"a": 1}} ', [("f", {"a": 1})]),
        (BARE, '{"name": "Bob", "parameters": {}}', None),
        (BARE, '{"name": "f", "parameters": {}} and more', None),
        (BARE, "Plain {text}", None),
        (BARE, "", []),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10**9])
def test_answer_is_split_into_text_and_calls(
    form: ToolCallFormat, answer: str, expected: list[Any] | None, size: int
) -> None:
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    assert parse(form, pieces) == ([answer] if expected is None else expected)


def test_ids_of_calls_differ() -> None:
    assert ParsedCall("f", "{}").id != ParsedCall("f", "{}").id
