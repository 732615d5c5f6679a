"""Text equals apply_chat_template, and target spans are those found in the text that transformers renders."""

import pickle
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from xft.errors import TemplateError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.templates.delimiters import TurnDelimiters
from xft.templates.spans import find_spans
from xft.types import Message, Segment

STOPS = (
    *("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|END_OF_TURN_TOKEN|>", "<|end|>"),
    *("<eoa>", "<eom>", "<|EOT|>"),
)
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
    """Up to three rounds, with and without a system turn, not all answers trained."""
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
    """What transformers makes of the same source, by its own Jinja."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    tokenizer: Any = template.tokenizer
    return tokenizer.apply_chat_template(
        turns, chat_template=template.source, tokenize=False, return_dict=False, **options
    )


def said(message: Message) -> str:
    """What must be in the text: all but reasoning that an answer begins with."""
    if message.role == "assistant" and message.content.lstrip().startswith("<think>"):
        return message.content.rpartition("</think>")[2]
    return message.content


def spans_of(segments: list[Segment]) -> list[tuple[int, int]]:
    found, position = [], 0
    for each in segments:
        if each.is_target:
            found.append((position, position + len(each.text)))
        position += len(each.text)
    return found


def spans_by_transformers(template: BoundTemplate, messages: list[Message]) -> list[tuple[int, int]]:
    """Return the spans found in the text that transformers renders."""
    question = [Message("user", "question")]
    asked = official(template, question, add_generation_prompt=True)
    answered = official(template, [*question, Message("assistant", "ANSWER")])
    lead = answered.partition("ANSWER")[0][len(asked) :]
    delimiters = TurnDelimiters(template.generation_prompt, template.end_of_turn, (), lead)
    return find_spans(
        official(template, messages), messages, lambda marked: official(template, list(marked)), delimiters
    )


@QUICK
@given(messages=conversations())
def test_text_is_the_one_of_apply_chat_template_and_spans_are_those_of_marks(
    template: BoundTemplate, messages: list[Message]
) -> None:
    try:
        text = official(template, messages)
    except Exception:  # noqa: BLE001 - whatever transformers raises
        with pytest.raises(TemplateError):
            template.segments(messages)
        return
    if any(said(each).strip() not in text for each in messages):
        with pytest.raises(TemplateError, match="drops the content"):
            template.segments(messages)
        return
    segments = template.segments(messages)
    assert "".join(each.text for each in segments) == text
    assert template.render(messages, generation=True) == official(
        template, messages, add_generation_prompt=True
    )
    assert spans_of(segments) == spans_by_transformers(template, messages)


@pytest.mark.parametrize("name", OWN)
def test_time_grows_with_the_number_of_turns_and_not_with_its_square(
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
        assert sum(each.is_target for each in segments) == rounds
        return time.process_time() - began

    seconds(500)
    assert min(seconds(4000) for _ in range(3)) < 10 * min(seconds(1000) for _ in range(3))
    seconds(5000)


MACRO = (
    "{% macro turn(message) %}<|im_start|>{{ message.role }}\n{{ message.content | trim }}<|im_end|>\n"
    "{% endmacro %}{% for message in messages %}{{ turn(message) }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@QUICK
@given(messages=conversations())
def test_template_with_macros_goes_spans_by_transformers(
    byte_tokenizer: Any, messages: list[Message]
) -> None:
    template = ChatTemplate(MACRO).bind(byte_tokenizer)
    segments = template.segments(messages)
    assert "".join(each.text for each in segments) == official(template, messages)
    trained = [each.text for each in segments if each.is_target]
    assert trained == [f"{each.content.strip()}<|im_end|>" for each in messages if each.is_target]


def test_many_turns_of_a_template_with_macros_take_two_renderings(
    byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = ChatTemplate(MACRO).bind(byte_tokenizer)
    render, count = template._text, []
    monkeypatch.setattr(
        template, "_text", lambda *given, **options: count.append(1) or render(*given, **options)
    )
    turns = [each for _ in range(200) for each in (Message("user", "x"), Message("assistant", " y ", True))]
    assert sum(each.is_target for each in template.segments(turns)) == 200
    assert len(count) == 2


SYSTEMS = ("aXb", "other", "", "a", " aXb ", "Xx", "\n", "b", "XaX", "<think>", "y%s")
PLAIN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LOOKS = [
    "{{ message.content | length }}",
    "{{ message.content[0] }}",
    "{{ message.content | upper }}",
    "{{ message.content | replace('a', 'b') }}",
    "{{ message.content ~ '!' }}",
    "{{ message.content.upper() }}",
    "{{ message | tojson }}",
    "{{ messages[:1] | tojson }}",
    "{{ '%s' % message.content }}",
    "{{ '{}'.format(message.content) }}",
    "{{ message.content < 'b' }}",
    "{{ message.content in ['aXb', 'other'] }}",
    "{{ message.content == 'aXb' }}",
    "{{ 'X' in message.content }}",
    "{{ message.content is string }}{{ message.content is mapping }}{{ message.content is none }}",
    "{{ message.content.startswith('a') }}{{ message.content.endswith('b') }}",
    "{{ message.content.split('X')[0] }}{{ message.content.split('X')[-1] }}",
    "{{ message.content.split('X') | length }}",
    "{{ (message.content + 'c') | trim }}{{ ('\\n' + message.content) | trim }}",
    "{{ messages[:1] | map(attribute='content') | join('|') }}",
    "{{ messages | selectattr('content', 'equalto', 'aXb') | list | length }}",
    "{% for letter in message.content %}{{ letter }}-{% endfor %}",
    "{% set gathered %}{{ message.content }}{% endset %}{{ gathered | length }}",
    "{% generation %}{{ message.content }}{% endgeneration %}",
    "{% filter upper %}{{ message.content }}{% endfilter %}",
    "{{ message.get('content') }}{{ message['content'] or 'nothing' }}",
    "{% set ns = namespace(said='') %}{% set ns.said = ns.said + message.content %}{{ ns.said }}",
    "{% if loop.changed(message.content) %}changed{% endif %}",
    "{% if not message.content %}{% continue %}{% endif %}{{ message.content | default('none', true) }}",
    "{{ {'a': message.content} | string }}",
    "{{ message.content.nothing is defined }}{{ message.content.__class__ is defined }}",
]


@pytest.mark.parametrize("look", LOOKS)
def test_whatever_a_template_looks_at_the_text_is_that_of_apply_chat_template(
    look: str, byte_tokenizer: Any
) -> None:
    """Plans kept for one text must not be used for another that the template would treat otherwise."""
    looking = "{% if messages[0].role == 'system' %}{% for message in messages[:1] %}" + look
    template = ChatTemplate(looking + "{% endfor %}{% endif %}" + PLAIN).bind(byte_tokenizer)
    refused = []
    for content in (*SYSTEMS, *reversed(SYSTEMS)):
        messages = [Message("system", content), Message("user", "Hi"), Message("assistant", "Hello!", True)]
        try:
            expected = official(template, messages)
        except Exception:  # noqa: BLE001 - whatever transformers raises
            refused.append(content)
            with pytest.raises(TemplateError):
                template.segments(messages)
            continue
        segments = template.segments(messages)
        assert "".join(each.text for each in segments) == expected, content
        assert [each.text for each in segments if each.is_target] == ["Hello!<|im_end|>"]
    assert set(refused) < set(SYSTEMS)


def test_date_is_the_one_of_binding_and_the_template_is_known_to_write_it(byte_tokenizer: Any) -> None:
    source = "{{ strftime_now('%d %b %Y') }}" + SOURCES["chatml"]
    day = datetime(2031, 5, 4)
    template = ChatTemplate(source).bind(byte_tokenizer, day)
    assert template.uses_current_date
    assert not ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer).uses_current_date
    messages = [Message("user", "Hi"), Message("assistant", "Hello!", True)]
    for _ in range(2):
        assert template.segments(messages)[0].text.startswith("04 May 2031<|im_start|>")
    again = pickle.loads(pickle.dumps(template))
    assert again.render(messages) == template.render(messages)


@pytest.mark.parametrize("name", ["__class__", "_hidden"])
def test_template_cannot_reach_into_python(name: str, byte_tokenizer: Any) -> None:
    with pytest.raises(TemplateError, match="refuses the messages"):
        ChatTemplate(
            "{% set ns = namespace() %}{% set ns." + name + " = 1 %}{{ messages.__class__.mro() }}"
        ).bind(byte_tokenizer)


def test_bos_is_put_before_a_source_that_says_nothing_of_it_and_only_once(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    """``<s>`` is BOS; with this post-processor, as most Llama tokenizers have it, it begins every text."""
    tokenizer = make_byte_tokenizer()
    turns = [Message("user", "Hi")]
    expected = "<|im_start|>user\nHi<|im_end|>\n"
    assert ChatTemplate(PLAIN).bind(tokenizer).render(turns) == expected
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    for source in (PLAIN, "{{ bos_token }}" + PLAIN, "<s>" + PLAIN):
        assert ChatTemplate(source).bind(tokenizer).render(turns) == "<s>" + expected
    tokenizer.chat_template = PLAIN
    assert ChatTemplate().bind(tokenizer).render(turns) == expected, "its own template is left as it is"
