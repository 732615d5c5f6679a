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
CALLING = Message("assistant", "", True, tool_calls=CALLS[:1])
RESULTS = [Message("tool", "dry", tool_call_id=call.id) for call in CALLS]


@pytest.fixture
def bind(make_byte_tokenizer: Callable[..., Any]) -> Callable[..., BoundTemplate]:
    tokenizer = make_byte_tokenizer(specials=jinja.SPECIALS)
    return lambda source, **options: ChatTemplate(source, **options).bind(tokenizer)


def targets(template: BoundTemplate, messages: list[Message]) -> list[str]:
    return [segment.text for segment in template.segments(messages) if segment.is_target]


@pytest.mark.parametrize(
    ("source", "turn_ends", "stops"),
    [
        (jinja.OPENED_THOUGHT, ("<|im_end|>", "<|im_end|>"), ("<|im_end|>",)),
        (jinja.CHANNELS, ("<|end|>", "<|return|>"), ("<|return|>", "<|call|>")),
        (jinja.OPEN_TURN, ("<turn|>", "<turn|>"), ("<turn|>", "<|result>")),
        (jinja.ENDS_WITH_EOS, ("<|end|>", "<|end|>"), ("<|end|>",)),
        (jinja.TWO_CLOSERS, ("<|STOP|><|EOT|>", "<|STOP|><|EOT|>"), ("<|EOT|>",)),
        (jinja.STRIPS_THOUGHT, ("<|eos|>", "<|eos|>"), ("<|eos|>",)),
        (jinja.NEXT_HEADER, ("No.<|user|>", "<|user|>"), ("<|user|>", "<|observation|>")),
        (jinja.OPEN_LAST, ("No.<|im_end|>", "<|im_end|>"), ("<|im_end|>",)),
        (jinja.ALWAYS_PROMPTS, ("<|STOP|><|EOT|>", "<|STOP|><|EOT|>"), ("<|EOT|>",)),
        (
            jinja.TAGGED,
            ("<|close|>response<|sep|><|close|>message<|sep|><|eom|>",) * 2,
            ("<|eom|>",),
        ),
        (jinja.PARTS, ("<|end|>", "<|end|>"), ("<|end|>",)),
        (jinja.LONGER_PROMPT, ("<|end|>", "<|end|>"), ("<|end|>",)),
    ],
)
def test_answers_end_with_their_tokens(
    source: str, turn_ends: tuple[str, str], stops: tuple[str, ...], bind: Callable[..., BoundTemplate]
) -> None:
    template = bind(source)
    ends = [
        text[-len(turn_end) :] for text, turn_end in zip(targets(template, ROUNDS), turn_ends, strict=True)
    ]
    assert ends == list(turn_ends)
    assert template.end_of_turn == turn_ends[1]
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


@pytest.mark.parametrize(
    ("source", "turns", "end"),
    [
        (jinja.NEXT_HEADER, [QUESTION, NO], "<|user|>"),
        (jinja.NEXT_HEADER, [QUESTION, CALLING], "<|observation|>"),
        (jinja.NEXT_HEADER, [QUESTION, NO, NEXT], ""),
        (jinja.OPEN_LAST, [QUESTION, NO], "<|im_end|>"),
        (jinja.ENDS_WITH_EOS, [QUESTION, NO], ""),
        (jinja.ALWAYS_PROMPTS, [QUESTION, NO], ""),
    ],
)
def test_omitted_end_of_the_last_answer_is_appended(
    source: str, turns: list[Message], end: str, bind: Callable[..., BoundTemplate]
) -> None:
    template = bind(source)
    rows = [{"role": turn.role, "content": turn.content} for turn in turns]
    for row, turn in zip(rows, turns, strict=True):
        if turn.tool_calls:
            row["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in turn.tool_calls
            ]  # fmt: skip
    tokenizer: Any = template.tokenizer
    official = tokenizer.apply_chat_template(rows, chat_template=source, tokenize=False)
    assert "".join(segment.text for segment in template.segments(turns)) == official + end
    assert template.render(turns, generation=True) == tokenizer.apply_chat_template(
        rows, chat_template=source, tokenize=False, add_generation_prompt=True
    )


def test_call_ends_with_the_header_of_its_result(bind: Callable[..., BoundTemplate]) -> None:
    call = '<call>weather{"city": "Oslo"}</call><|observation|>'
    assert targets(bind(jinja.NEXT_HEADER), [QUESTION, CALLING, RESULTS[0], YES]) == [
        f"\n{call}",
        "\nYes.<|user|>",
    ]


def test_call_ends_before_a_generation_prompt_that_is_always_written(
    bind: Callable[..., BoundTemplate],
) -> None:
    assert targets(bind(jinja.ALWAYS_PROMPTS), [QUESTION, CALLING, RESULTS[0], YES]) == [
        'weather{"city": "Oslo"}<|STOP|><|EOT|>',
        "<|START|>Yes.<|STOP|><|EOT|>",
    ]


def test_line_break_that_an_empty_answer_lacks_is_not_required(bind: Callable[..., BoundTemplate]) -> None:
    source = jinja.TURNS.replace("{{ m.content }}", "{{ m.content ~ '\n' if m.content }}")
    source += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    empty = Message("assistant", "", True)
    assert targets(bind(source), [QUESTION, YES, NEXT, empty]) == ["Yes.\n<|im_end|>", "<|im_end|>"]


def test_bos_does_not_end_an_answer(bind: Callable[..., BoundTemplate]) -> None:
    source = "{% for m in messages %}{{ bos_token if m.role == 'user' }}{{ m.role }}: {{ m.content }} {% endfor %}"
    with pytest.raises(TemplateError) as error:
        bind(source)
    assert error.value.expected == "a special token"


def test_template_that_drops_answers_raises(bind: Callable[..., BoundTemplate]) -> None:
    with pytest.raises(TemplateError) as error:
        bind("{% for m in messages if m.role == 'user' %}<|user|>{{ m.content }}<|end|>{% endfor %}")
    assert error.value.key == "template"
    assert error.value.expected == "a template that renders the content of answers as text"
