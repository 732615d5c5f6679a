"""A target span ends with the tokens at which the model stops."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers import jinja_sources as jinja

from xft.errors import TemplateError
from xft.templates import BoundTemplate, ChatTemplate
from xft.types import Message, ToolCall

QUESTION, NEXT = Message("user", "Rain?"), Message("user", "Snow?")
NO, YES = Message("assistant", "No.", True), Message("assistant", "Yes.", True)
ROUNDS = [QUESTION, NO, NEXT, YES]
CALLS = tuple(ToolCall("weather", {"city": city}, city) for city in ("Oslo", "Bonn"))
RESULTS = [Message("tool", "dry", tool_call_id=call.id) for call in CALLS]


@pytest.fixture
def bind(make_byte_tokenizer: Callable[..., Any]) -> Callable[..., BoundTemplate]:
    tokenizer = make_byte_tokenizer(specials=jinja.SPECIALS)
    return lambda source, **options: ChatTemplate(source, **options).bind(tokenizer)


def targets(template: BoundTemplate, messages: list[Message]) -> list[str]:
    return [segment.text for segment in template.segments(messages) if segment.is_target]


@pytest.mark.parametrize(
    ("source", "closings", "stops"),
    [
        (jinja.OPENED_THOUGHT, ("<|im_end|>", "<|im_end|>"), ("<|im_end|>",)),
        (jinja.CHANNELS, ("<|end|>", "<|return|>"), ("<|return|>", "<|call|>")),
        (jinja.OPEN_TURN, ("<turn|>", "<turn|>"), ("<turn|>", "<|result>")),
        (jinja.ENDS_WITH_EOS, ("<|end|>", "<|end|>"), ("<|end|>",)),
        (jinja.TWO_CLOSERS, ("<|STOP|><|EOT|>", "<|STOP|><|EOT|>"), ("<|EOT|>",)),
        (jinja.STRIPS_THOUGHT, ("<|eos|>", "<|eos|>"), ("<|eos|>",)),
    ],
)
def test_answers_end_with_their_tokens(
    source: str, closings: tuple[str, str], stops: tuple[str, ...], bind: Callable[..., BoundTemplate]
) -> None:
    template = bind(source)
    ends = [
        text[-len(closing) :] for text, closing in zip(targets(template, ROUNDS), closings, strict=True)
    ]
    assert ends == list(closings)
    assert template.end_of_turn == closings[1]
    assert template.stop_tokens == stops


def test_template_that_closes_only_the_last_answer_trains_the_last_answer(
    bind: Callable[..., BoundTemplate],
) -> None:
    assert targets(bind(jinja.CLOSES_LAST), ROUNDS[2:]) == ["Yes.</s>"]
    with pytest.raises(TemplateError) as error:
        bind(jinja.CLOSES_LAST).segments(ROUNDS)
    assert "template.mask_history=True" in error.value.fix
    assert targets(bind(jinja.CLOSES_LAST, mask_history=True), ROUNDS) == ["Yes.</s>"]
    assert targets(bind(jinja.ENDS_WITH_EOS, mask_history=True), ROUNDS) == ["Yes.<|end|>"]


def test_parallel_calls_are_one_span(bind: Callable[..., BoundTemplate]) -> None:
    turns = [QUESTION, Message("assistant", "", True, tool_calls=CALLS), *RESULTS, YES]
    call = '<|call>weather{{"city": "{}"}}<call|>'
    assert targets(bind(jinja.OPEN_TURN), turns) == [
        call.format("Oslo") + call.format("Bonn") + "<|result>",
        "Yes.<turn|>",
    ]


def test_call_that_the_template_drops_raises(bind: Callable[..., BoundTemplate]) -> None:
    """The template of gpt-oss writes the first call of a turn only, without a word on the others."""
    turns = [QUESTION, Message("assistant", "", True, tool_calls=CALLS), RESULTS[0], YES]
    with pytest.raises(TemplateError) as error:
        bind(jinja.CHANNELS).segments(turns)
    assert error.value.got == "weather"
    one = Message("assistant", "", True, tool_calls=CALLS[:1])
    assert targets(bind(jinja.CHANNELS), [QUESTION, one, RESULTS[0], YES])[0].endswith('"Oslo"}<|call|>')


def test_content_that_the_template_writes_after_the_result_raises(
    bind: Callable[..., BoundTemplate],
) -> None:
    late = jinja.OPEN_TURN.replace(
        "{{ m.content }}{% for c", "{{ m.content if not m.tool_calls }}{% for c"
    ).replace("<result|>{% else %}", "<result|>{{ messages[loop.index0 - 1].content }}{% else %}")
    turns = [QUESTION, Message("assistant", "Wait.", True, tool_calls=CALLS[:1]), RESULTS[0], YES]
    with pytest.raises(TemplateError) as error:
        bind(late).segments(turns)
    assert error.value.key == "template"
