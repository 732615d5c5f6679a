"""Text equals apply_chat_template, and target spans are those found in the text that transformers renders."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from helpers.documented_texts import STOPS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xft.errors import TemplateError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.templates.answer_prefixes import AnswerPrefixes
from xft.templates.spans import find_spans
from xft.templates.turn_ends import find_turn_ends
from xft.types import Message, Messages, Segment

OWN = ("smollm2", "qwen3", "llama3")
PIECES = (
    *(
        "",
        " ",
        "\n",
        "\n\n",
        "\t",
        "\u2003",
        "\u00a0",
        "a",
        "Hello!",
        "100 %s",
        "%",
        "{{ 7 * 7 }}",
        "{% if x %}",
    ),
    *("</think>", "<think>", "<think>\nwhy\n</think>\n\n", "<tool_response>", "</tool_response>"),
    *("<|im_start|>assistant\n", "<|im_end|>", "<|eot_id|>", "</s>", "\x00", "\ue000", "\ue001", "\uf8ff"),
    *("中文", "👩\u200d👩\u200d👧", "e\u0301", "\r\n", "&<>'\"", "\\n"),
)
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), st.text(max_size=8))
QUICK = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Draw up to three rounds, with and without a system turn; only some answers are targets."""
    made = [Message("system", draw(TEXTS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        made.append(Message("user", draw(TEXTS)))
        made.append(Message("assistant", draw(TEXTS), draw(st.booleans())))
    return made


@pytest.fixture(scope="module", params=[*OWN, *SOURCES])
def template(request: pytest.FixtureRequest, make_byte_tokenizer: Callable[..., Any]) -> BoundTemplate:
    if request.param in OWN:
        return ChatTemplate().bind(request.getfixturevalue(f"{request.param}_tokenizer"))
    return ChatTemplate(SOURCES[request.param]).bind(make_byte_tokenizer(specials=STOPS))


def official(template: BoundTemplate, messages: list[Message], **options: Any) -> str:
    """Render the same source with transformers."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    tokenizer: Any = template.tokenizer
    text: str = tokenizer.apply_chat_template(
        turns, chat_template=template.source, tokenize=False, return_dict=False, **options
    )
    answered = messages[-1].role == "assistant" and not options.get("add_generation_prompt")
    return text + "<|user|>" if template.source == SOURCES["glm4"] and answered else text


def required_text(message: Message) -> str:
    """Return the text that must be rendered: everything except leading reasoning of an answer."""
    if message.role == "assistant" and message.content.lstrip().startswith("<think>"):
        return message.content.rpartition("</think>")[2]
    return message.content


def spans_of(segments: list[Segment]) -> list[tuple[int, int]]:
    spans, position = [], 0
    for segment in segments:
        if segment.is_target:
            spans.append((position, position + len(segment.text)))
        position += len(segment.text)
    return spans


def spans_by_transformers(template: BoundTemplate, messages: list[Message]) -> list[tuple[int, int]]:
    """Return the spans found in the text that transformers renders."""

    def render(marked: Messages, tools: Sequence[Any] = (), generation: bool = False) -> str:
        try:
            return official(template, list(marked), add_generation_prompt=generation)
        except Exception as error:
            raise TemplateError(str(error)) from error

    question = [Message("user", "question")]
    always_prompts = render(question) == render(question, (), True)
    turn_ends = find_turn_ends(render, (*STOPS, "<s>", "</s>", "<|im_end|>"), always_prompts)
    answer_prefixes = AnswerPrefixes(render, False, template.generation_prompt)
    spans = find_spans(render(messages), messages, (), render, answer_prefixes, turn_ends)
    return [(span.thought[1] if span.thought else span.start, span.end) for span in spans]


@QUICK
@given(messages=conversations())
def test_segments_equal_text_and_spans_of_transformers(
    template: BoundTemplate, messages: list[Message]
) -> None:
    try:
        text = official(template, messages)
    except Exception:  # noqa: BLE001 - whatever transformers raises
        with pytest.raises(TemplateError):
            template.segments(messages)
        return
    if any(required_text(message).strip() not in text for message in messages):
        with pytest.raises(TemplateError) as error:
            template.segments(messages)
        assert error.value.got in [message.content for message in messages]
        return
    segments = template.segments(messages)
    assert "".join(segment.text for segment in segments) == text
    assert template.render(messages, generation=True) == official(
        template, messages, add_generation_prompt=True
    )
    assert spans_of(segments) == spans_by_transformers(template, messages)


@pytest.mark.parametrize("name", OWN)
def test_time_of_segments_is_linear_in_the_number_of_turns(
    name: str, request: pytest.FixtureRequest
) -> None:
    template = ChatTemplate().bind(request.getfixturevalue(f"{name}_tokenizer"))

    def seconds(rounds: int) -> float:
        turns = [
            turn
            for number in range(rounds)
            for turn in (Message("user", f"{number}?"), Message("assistant", f"{number}!", True))
        ]
        began = time.process_time()
        segments = template.segments(turns)
        assert sum(segment.is_target for segment in segments) == rounds
        return time.process_time() - began

    seconds(100)
    assert min(seconds(2000) for _ in range(2)) < 10 * min(seconds(500) for _ in range(2))


MACRO = (
    "{% macro turn(message) %}<|im_start|>{{ message.role }}\n{{ message.content | trim }}<|im_end|>\n"
    "{% endmacro %}{% for message in messages %}{{ turn(message) }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@QUICK
@given(messages=conversations())
def test_segments_of_a_template_with_macros_equal_transformers(
    byte_tokenizer: Any, messages: list[Message]
) -> None:
    template = ChatTemplate(MACRO).bind(byte_tokenizer)
    segments = template.segments(messages)
    assert "".join(segment.text for segment in segments) == official(template, messages)
    targets = [segment.text for segment in segments if segment.is_target]
    assert targets == [f"{turn.content.strip()}<|im_end|>" for turn in messages if turn.is_target]


def test_segments_of_many_turns_render_a_template_with_macros_once(
    byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = ChatTemplate(MACRO).bind(byte_tokenizer)
    render, count = template._text, []
    monkeypatch.setattr(
        template, "_text", lambda *given, **options: count.append(1) or render(*given, **options)
    )
    turns = [Message("user", "x"), Message("assistant", " y ", True)] * 200
    assert sum(segment.is_target for segment in template.segments(turns)) == 200
    assert len(count) == 1
