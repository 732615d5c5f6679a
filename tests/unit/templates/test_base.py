"""Chat templates: text against hand-written expectations, and refusal of what cannot be trained."""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from xft.errors import DataError, TemplateError
from xft.registry import resolve
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import Message, Segment

SYSTEM = Message("system", "Be brief.")
QUESTION = Message("user", "Hi")
ANSWER = Message("assistant", "Hello!", is_target=True)
AGAIN = [Message("user", "Bye"), Message("assistant", "See you.", is_target=True)]
CONVERSATION = [QUESTION, ANSWER, *AGAIN]

CHATML_TURNS = (
    "<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello!<|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n"
    "<|im_start|>assistant\nSee you.<|im_end|>\n"
)
LLAMA3_TURNS = (
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nSee you.<|eot_id|>"
)
ZEPHYR_TURNS = (
    "<|user|>\nHi</s>\n<|assistant|>\nHello!</s>\n<|user|>\nBye</s>\n<|assistant|>\nSee you.</s>\n"
)
CHATML_SYSTEM = "<|im_start|>system\nBe brief.<|im_end|>\n"
LLAMA3_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
QWEN_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"

PLAIN = {
    "chatml": CHATML_TURNS,
    "qwen_chat": QWEN_SYSTEM + CHATML_TURNS,
    "internlm2_chat": "<s>" + CHATML_TURNS,
    "llama3_chat": "<s>" + LLAMA3_TURNS,
    "zephyr": ZEPHYR_TURNS,
}
WITH_SYSTEM = {
    "chatml": CHATML_SYSTEM + CHATML_TURNS,
    "qwen_chat": CHATML_SYSTEM + CHATML_TURNS,
    "internlm2_chat": "<s>" + CHATML_SYSTEM + CHATML_TURNS,
    "llama3_chat": "<s>" + LLAMA3_SYSTEM + LLAMA3_TURNS,
    "zephyr": "<|system|>\nBe brief.</s>\n" + ZEPHYR_TURNS,
}
HEADERS = {
    "chatml": "<|im_start|>assistant\n",
    "qwen_chat": "<|im_start|>assistant\n",
    "internlm2_chat": "<|im_start|>assistant\n",
    "llama3_chat": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "zephyr": "<|assistant|>\n",
}
ENDS = {
    "chatml": "<|im_end|>",
    "qwen_chat": "<|im_end|>",
    "internlm2_chat": "<|im_end|>",
    "llama3_chat": "<|eot_id|>",
    "zephyr": "</s>",
}
CHATML = SOURCES["chatml"]


def bind(name: str, tokenizer: Any) -> BoundTemplate:
    """Build a template by its registered name, as a config does."""
    return resolve("template", name)().bind(tokenizer)


@pytest.mark.parametrize("name", PLAIN)
def test_render_without_system_equals_the_documented_text(name: str, byte_tokenizer: Any) -> None:
    assert bind(name, byte_tokenizer).render(CONVERSATION) == PLAIN[name]


@pytest.mark.parametrize("name", WITH_SYSTEM)
def test_render_with_system_equals_the_documented_text(name: str, byte_tokenizer: Any) -> None:
    assert bind(name, byte_tokenizer).render([SYSTEM, *CONVERSATION]) == WITH_SYSTEM[name]


@pytest.mark.parametrize("name", PLAIN)
def test_render_for_generation_ends_with_the_generation_prompt(name: str, byte_tokenizer: Any) -> None:
    opened = bind(name, byte_tokenizer).render(CONVERSATION, generation=True)
    assert opened == PLAIN[name] + HEADERS[name]


@pytest.mark.parametrize("name", PLAIN)
def test_bound_template_has_generation_prompt_and_end_of_turn(name: str, byte_tokenizer: Any) -> None:
    template = bind(name, byte_tokenizer)
    assert template.generation_prompt == HEADERS[name]
    assert template.end_of_turn == template.stop_token == ENDS[name]


@pytest.mark.parametrize("name", PLAIN)
def test_target_segments_are_answers_with_their_end_of_turn(name: str, byte_tokenizer: Any) -> None:
    segments = bind(name, byte_tokenizer).segments([SYSTEM, *CONVERSATION])
    assert "".join(segment.text for segment in segments) == WITH_SYSTEM[name]
    targets = [segment.text for segment in segments if segment.is_target]
    assert targets == [f"Hello!{ENDS[name]}", f"See you.{ENDS[name]}"]


def test_segments_of_chatml_equal_those_by_hand(byte_tokenizer: Any) -> None:
    segments = bind("chatml", byte_tokenizer).segments(CONVERSATION)
    assert segments == [
        Segment("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", False),
        Segment("Hello!<|im_end|>", True),
        Segment("\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n", False),
        Segment("See you.<|im_end|>", True),
        Segment("\n", False),
    ]


def test_segments_without_target_messages_have_no_target(byte_tokenizer: Any) -> None:
    shown = [QUESTION, Message("assistant", "Hello!")]
    segments = bind("chatml", byte_tokenizer).segments(shown)
    assert segments == [
        Segment(
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n",
            False,
        )
    ]


@pytest.mark.parametrize(
    "content",
    [
        "<|im_start|>assistant\nnested",
        "\ue000answer\ue001",
        "\ue000answer\ue001\ue000answer\ue001",
        "\ue000 begins with a private character",
        "ends with a private character \ue001",
        "\n\nleading breaks",
        "{{ jinja }} {% for %}",
    ],
)
def test_target_of_unusual_answer_is_the_whole_answer(content: str, byte_tokenizer: Any) -> None:
    conversation = [QUESTION, Message("assistant", content, is_target=True)]
    segments = bind("chatml", byte_tokenizer).segments(conversation)
    targets = [segment.text for segment in segments if segment.is_target]
    assert targets == [f"{content}<|im_end|>"]


ALWAYS_OPENED = CHATML.replace("{% if add_generation_prompt %}", "{% if true %}")


@pytest.mark.parametrize("content", ["plain", "\ue000 private first", "private last \ue001"])
def test_target_of_template_without_generation_prompt_is_the_whole_answer(
    content: str, byte_tokenizer: Any
) -> None:
    """The official Llama 3 template always opens an answer too."""
    template = ChatTemplate(ALWAYS_OPENED).bind(byte_tokenizer)
    conversation = [QUESTION, Message("assistant", content, is_target=True)]
    targets = [segment.text for segment in template.segments(conversation) if segment.is_target]
    assert targets == [f"{content}<|im_end|>"]


@pytest.mark.parametrize(
    "conversation",
    [
        [Message("user", "Hi", is_target=True), ANSWER],
        [QUESTION, Message("assistant", "Hello!"), Message("user", "Bye", is_target=True), AGAIN[1]],
    ],
)
def test_segments_with_a_user_message_as_target_raise_template_error(
    conversation: list[Message], byte_tokenizer: Any
) -> None:
    with pytest.raises(TemplateError) as error:
        bind("chatml", byte_tokenizer).segments(conversation)
    assert (error.value.got, error.value.expected) == ("user", "assistant")


def test_auto_uses_the_template_of_the_tokenizer(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    own = CHATML.replace("<|im_start|>", "<|start_header_id|>")
    tokenizer = make_byte_tokenizer(own)
    assert bind("auto", tokenizer).generation_prompt == "<|start_header_id|>assistant\n"
    assert bind("chatml", tokenizer).generation_prompt == "<|im_start|>assistant\n"
    assert tokenizer.chat_template == own


def test_auto_for_tokenizer_without_template_raises_template_error(byte_tokenizer: Any) -> None:
    with pytest.raises(TemplateError) as error:
        ChatTemplate().bind(byte_tokenizer)
    assert error.value.key == "template"


NO_END = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}" + (
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def test_bind_of_template_without_end_of_turn_token_raises_template_error(byte_tokenizer: Any) -> None:
    with pytest.raises(TemplateError) as error:
        ChatTemplate(NO_END).bind(byte_tokenizer)
    assert (error.value.key, error.value.got, error.value.expected) == ("template", "\n", "a special token")


def test_bind_with_end_of_turn_unknown_to_the_tokenizer_raises_template_error(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    with pytest.raises(TemplateError) as error:
        ChatTemplate(CHATML).bind(make_byte_tokenizer(specials=("<|im_start|>",)))
    assert (error.value.got, error.value.expected) == ("<|im_end|>\n", "a special token")


NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHATML
)


def test_segments_of_refused_conversation_raise_template_error_with_its_roles(byte_tokenizer: Any) -> None:
    template = ChatTemplate(NO_SYSTEM).bind(byte_tokenizer)
    assert template.render(CONVERSATION) == CHATML_TURNS
    with pytest.raises(TemplateError) as error:
        template.segments([SYSTEM, QUESTION, ANSWER])
    assert (error.value.key, error.value.got) == ("template", "system, user, assistant")
    assert "no system turn" in str(error.value)


def test_bind_of_template_that_always_raises_raises_template_error(byte_tokenizer: Any) -> None:
    with pytest.raises(TemplateError) as error:
        ChatTemplate("{{ raise_exception('never mind') }}").bind(byte_tokenizer)
    assert (error.value.key, "never mind" in str(error.value)) == ("template", True)


def test_bind_of_invalid_jinja_raises_template_error(byte_tokenizer: Any) -> None:
    with pytest.raises(TemplateError) as error:
        ChatTemplate("{% for message in messages %}").bind(byte_tokenizer)
    assert error.value.key == "template"


def test_bind_of_template_with_other_generation_prompt_raises_template_error(byte_tokenizer: Any) -> None:
    source = CHATML.replace("assistant\\n' }}", "bot\\n' }}")
    with pytest.raises(TemplateError) as error:
        ChatTemplate(source).bind(byte_tokenizer)
    assert str(error.value.got).endswith("<|im_start|>assistant\n")
    assert error.value.expected.endswith("<|im_start|>bot\n")


def test_template_error_is_a_data_error() -> None:
    assert issubclass(TemplateError, DataError)


def test_bos_is_added_once_to_a_source_that_does_not_write_it(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    """``<s>`` is BOS; with this post-processor, as most Llama tokenizers have it, it begins every text."""
    tokenizer = make_byte_tokenizer()
    turns = [Message("user", "Hi")]
    expected = "<|im_start|>user\nHi<|im_end|>\n"
    assert ChatTemplate(CHATML).bind(tokenizer).render(turns) == expected
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    for source in (CHATML, "{{ bos_token }}" + CHATML, "<s>" + CHATML):
        assert ChatTemplate(source).bind(tokenizer).render(turns) == "<s>" + expected
    tokenizer.chat_template = CHATML
    assert ChatTemplate().bind(tokenizer).render(turns) == expected, "its own template is left as it is"
