"""Official chat templates, which TRL ships, against apply_chat_template and against TRL's masks.

TRL keeps the templates of many model families, and variants with ``{% generation %}`` blocks. They are read in place.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xft.data import formats
from xft.data.encoding.tokenize import encode_conversations
from xft.errors import DataError, TemplateError
from xft.templates import BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Conversation, Row, Sample

_TRL = find_spec("trl")
FOLDER = Path(_TRL.origin).parent / "chat_templates" if _TRL and _TRL.origin else None
NAMES = (
    sorted(path.stem for path in FOLDER.glob("*.jinja") if "_training" not in path.stem) if FOLDER else []
)
READ_PARTS = {"idefics3", "llava_next", "smolvlm"}
"""Their templates read content as a list of parts."""
OMIT_END = {"glm4moe": ("<|user|>", "<|observation|>")}
"""Tokens after an answer and after a call, which the template omits at the end of a conversation."""
_TOKEN = re.compile(r"<[|｜]?[\w|｜▁/]+[|｜]?>")
_REASONING = re.compile("reasoning_content|thinking'|\\.thinking")


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def answer(text: str, **more: str) -> Row:
    return {"role": "assistant", "content": text, **more}


def calling(*names: str, **more: str) -> Row:
    calls = [
        {
            "id": f"call0000{number}",
            "type": "function",
            "function": {"name": name, "arguments": {"city": "Oslo"}},
        }
        for number, name in enumerate(names)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls, **more}


def result(number: int, name: str) -> Row:
    return {"role": "tool", "tool_call_id": f"call0000{number}", "name": name, "content": f"result {name}"}


def tool(name: str) -> Row:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "City"}},
        "required": ["city"],
    }
    return {"type": "function", "function": {"name": name, "description": "Look", "parameters": parameters}}


SYSTEM = {"role": "system", "content": "Be brief."}
PLAIN = {
    "one turn": [user("q1"), answer("a1")],
    "system": [SYSTEM, user("q1"), answer("a1")],
    "many turns": [SYSTEM, user("q1"), answer("a1"), user("q2"), answer("a2"), user("q3"), answer("a3")],
    "last turn of the user": [user("q1"), answer("a1"), user("q2")],
    "empty answer": [user("q1"), answer(""), user("q2"), answer("a2")],
}
REASONING = {
    "thoughts": [
        user("q1"),
        answer("a1", reasoning_content="r1"),
        user("q2"),
        answer("a2", reasoning_content="r2"),
    ],
    "earlier thought": [user("q1"), answer("a1", reasoning_content="r1"), user("q2"), answer("a2")],
    "thoughtful call": [
        *(user("q1"), calling("weather", reasoning_content="r1"), result(0, "weather")),
        answer("a1", reasoning_content="r2"),
    ],
}
TOOLS = {
    "call": [user("q1"), calling("weather"), result(0, "weather"), answer("a1")],
    "call at the end": [user("q1"), calling("weather")],
    "parallel calls": [
        *(user("q1"), calling("weather", "clock"), result(0, "weather"), result(1, "clock"), answer("a1"))
    ],
    "results in another order": [
        *(user("q1"), calling("weather", "clock"), result(1, "clock"), result(0, "weather"), answer("a1"))
    ],
    "chain": [
        *(user("q1"), calling("weather"), result(0, "weather"), calling("clock"), result(0, "clock")),
        *(answer("a1"), user("q2"), answer("a2")),
    ],
}


def source_of(name: str) -> str:
    assert FOLDER is not None
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bind(make_byte_tokenizer: Callable[..., Any]) -> Callable[[str], BoundTemplate]:
    @cache
    def bound(name: str) -> BoundTemplate:
        source = source_of(name)
        tokens = sorted(set(_TOKEN.findall(source)) - {"<think>", "</think>"})
        return ChatTemplate().bind(make_byte_tokenizer(source, tuple(tokens)))

    return bound


def conversations(source: str) -> dict[str, list[Row]]:
    """The conversations that a template is meant for."""
    chosen = dict(PLAIN)
    if "tool_calls" in source:
        chosen |= TOOLS
    if _REASONING.search(source):
        chosen |= {
            name: turns
            for name, turns in REASONING.items()
            if name != "thoughtful call" or "tool_calls" in source
        }
    return chosen


def tools_of(turns: list[Row]) -> list[Row] | None:
    return [tool("weather"), tool("clock")] if any("tool_calls" in turn for turn in turns) else None


def encode(template: BoundTemplate, turns: list[Row]) -> Sample:
    value = formats.openai({"messages": turns, "tools": tools_of(turns)})
    conversation = value if isinstance(value, Conversation) else Conversation(value)
    [sample] = encode_conversations([conversation], template, template.tokenizer)
    if isinstance(sample, DataError):
        raise sample
    return sample


def targets(sample: Sample, tokenizer: Any) -> list[str]:
    """Text of each unbroken run of targets."""
    mask = np.concatenate([[False], sample.labels != IGNORE_INDEX, [False]])
    edges = np.flatnonzero(mask[1:] != mask[:-1]).reshape(-1, 2)
    return [tokenizer.decode(sample.input_ids[begin:end]) for begin, end in edges]


REFUSED = ("drops them", "drops the call", "drops the content", "before the content")
"""Parts of the messages on rows that a template cannot represent."""


def official(
    template: BoundTemplate, name: str, turns: list[Row], return_dict: bool = False, **options: Any
) -> Any:
    """Ids or text that transformers renders."""
    if name in READ_PARTS:
        turns = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    tokenizer: Any = template.tokenizer
    return tokenizer.apply_chat_template(turns, tools=tools_of(turns), return_dict=return_dict, **options)


def omitted_end(name: str, turns: list[Row]) -> str:
    if name not in OMIT_END or turns[-1]["role"] != "assistant":
        return ""
    return OMIT_END[name]["tool_calls" in turns[-1]]


@pytest.mark.parametrize("name", NAMES)
def test_official_template_trains_on_answers_with_their_end_of_turn(
    name: str, bind: Callable[[str], BoundTemplate]
) -> None:
    template = bind(name)
    tokenizer: Any = template.tokenizer
    trained = 0
    for kind, turns in conversations(template.source).items():
        try:
            expected = official(template, name, turns)
        except Exception:  # noqa: BLE001 - whatever the template raises
            with pytest.raises(TemplateError):
                encode(template, turns)
            continue
        try:
            sample = encode(template, turns)
        except TemplateError as error:
            assert "tool" in str(error) or "call" in str(error), kind  # noqa: PT017
            continue
        trained += 1
        expected += tokenizer(omitted_end(name, turns), add_special_tokens=False)["input_ids"]
        assert sample.input_ids.tolist() == expected, kind
        answers = [turn for turn in turns if turn["role"] == "assistant"]
        spans = targets(sample, tokenizer)
        assert len(spans) == len(answers), (kind, spans)
        for turn, span in zip(answers, spans, strict=True):
            others = {text for other in turns for text in (other["content"],) if other is not turn and text}
            assert turn["content"] in span, (kind, span)
            assert all(call["function"]["name"] in span for call in turn.get("tool_calls", [])), (
                kind,
                span,
            )
            assert not any(text in span for text in others), (kind, span)
            assert any(span.endswith(token) for token in tokenizer.all_special_tokens), (kind, span)
        assert_starts_where_generation_starts(template, name, turns, spans, kind)
    assert trained >= 3


def assert_starts_where_generation_starts(
    template: BoundTemplate, name: str, turns: list[Row], spans: list[str], kind: str
) -> None:
    """The text before the last span is the prompt for generation, except for a thought."""
    if turns[-1]["role"] != "assistant":
        return
    text = official(template, name, turns, tokenize=False) + omitted_end(name, turns)
    prompt = official(template, name, turns[:-1], tokenize=False, add_generation_prompt=True)
    # An answer may change the text of earlier turns: gpt-oss drops their thoughts.
    last = turns[-2]["content"]
    before = text[: text.rindex(spans[-1])].rpartition(last)[2]
    thought = re.compile(r"<think>\s*(?:</think>\s*)?$")
    prompt = prompt.rpartition(last)[2]
    assert thought.sub("", before).rstrip() == thought.sub("", prompt).rstrip(), kind


@pytest.mark.parametrize(
    "name", [name for name in NAMES if FOLDER and (FOLDER / f"{name}_training.jinja").is_file()]
)
def test_targets_are_those_of_trl(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    """TRL's masks also hold the white space and the EOS after the turn, thoughts, and the header in some templates."""
    template = bind(name)
    tokenizer: Any = template.tokenizer
    compared = 0
    for kind, turns in PLAIN.items():
        try:
            sample = encode(template, turns)
        except TemplateError:
            continue
        reference = official(
            template,
            name,
            turns,
            chat_template=source_of(f"{name}_training"),
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        if reference["input_ids"] != sample.input_ids.tolist():
            continue
        compared += 1
        ours, theirs = sample.labels != IGNORE_INDEX, np.array(reference["assistant_masks"], dtype=bool)
        more = tokenizer.decode(sample.input_ids[ours & ~theirs])
        less = tokenizer.decode(sample.input_ids[theirs & ~ours])
        header = re.escape(template.generation_prompt.removesuffix("<think>\n"))
        assert re.fullmatch(rf"(\s|</?think>|</s>|{header})*", less), (kind, less)
        assert re.fullmatch(r"\s*", more), (kind, more)
    assert compared or "qwen3" in name or "nemotron" in name
