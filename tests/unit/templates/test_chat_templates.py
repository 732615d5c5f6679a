"""Chat templates: text against hand-written expectations, and refusal of what cannot be trained."""

from collections.abc import Callable
from typing import Any

import pytest

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
def test_text_without_system_is_the_documented_one(name: str, byte_tokenizer: Any) -> None:
    assert bind(name, byte_tokenizer).render(CONVERSATION) == PLAIN[name]


@pytest.mark.parametrize("name", WITH_SYSTEM)
def test_text_with_system_is_the_documented_one(name: str, byte_tokenizer: Any) -> None:
    assert bind(name, byte_tokenizer).render([SYSTEM, *CONVERSATION]) == WITH_SYSTEM[name]


@pytest.mark.parametrize("name", PLAIN)
def test_generation_prompt_is_the_text_with_an_opened_answer(name: str, byte_tokenizer: Any) -> None:
    opened = bind(name, byte_tokenizer).render(CONVERSATION, generation=True)
    assert opened == PLAIN[name] + HEADERS[name]


@pytest.mark.parametrize("name", PLAIN)
def test_header_end_of_turn_and_stop_token_are_found(name: str, byte_tokenizer: Any) -> None:
    template = bind(name, byte_tokenizer)
    assert template.generation_prompt == HEADERS[name]
    assert template.end_of_turn == template.stop_token == ENDS[name]


@pytest.mark.parametrize("name", PLAIN)
def test_trained_pieces_are_answers_with_their_end_of_turn(name: str, byte_tokenizer: Any) -> None:
    segments = bind(name, byte_tokenizer).segments([SYSTEM, *CONVERSATION])
    assert "".join(each.text for each in segments) == WITH_SYSTEM[name]
    trained = [each.text for each in segments if each.is_target]
    assert trained == [f"Hello!{ENDS[name]}", f"See you.{ENDS[name]}"]


def test_segments_of_chatml_are_the_ones_cut_by_hand(byte_tokenizer: Any) -> None:
    segments = bind("chatml", byte_tokenizer).segments(CONVERSATION)
    assert segments == [
        Segment("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", False),
        Segment("Hello!<|im_end|>", True),
        Segment("\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n", False),
        Segment("See you.<|im_end|>", True),
        Segment("\n", False),
    ]


def test_conversation_without_trained_turns_has_no_trained_piece(byte_tokenizer: Any) -> None:
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
def test_any_answer_text_is_found_whole(content: str, byte_tokenizer: Any) -> None:
    conversation = [QUESTION, Message("assistant", content, is_target=True)]
    trained = [
        each.text for each in bind("chatml", byte_tokenizer).segments(conversation) if each.is_target
    ]
    assert trained == [f"{content}<|im_end|>"]


ALWAYS_OPENED = CHATML.replace("{% if add_generation_prompt %}", "{% if true %}")


@pytest.mark.parametrize("content", ["plain", "\ue000 private first", "private last \ue001"])
def test_any_answer_text_is_found_whole_where_the_template_always_opens_an_answer(
    content: str, byte_tokenizer: Any
) -> None:
    """As the official Llama 3 template does: there is then no header to look for."""
    template = ChatTemplate(ALWAYS_OPENED).bind(byte_tokenizer)
    conversation = [QUESTION, Message("assistant", content, is_target=True)]
    trained = [each.text for each in template.segments(conversation) if each.is_target]
    assert trained == [f"{content}<|im_end|>"]


@pytest.mark.parametrize(
    "conversation",
    [
        [Message("user", "Hi", is_target=True), ANSWER],
        [QUESTION, Message("assistant", "Hello!"), Message("user", "Bye", is_target=True), AGAIN[1]],
    ],
)
def test_turn_of_the_user_is_never_trained(conversation: list[Message], byte_tokenizer: Any) -> None:
    """Of Message: "Only an assistant's turn can be" trained. A user's own format may say otherwise."""
    template = bind("chatml", byte_tokenizer)
    try:
        trained = [each.text for each in template.segments(conversation) if each.is_target]
    except DataError:
        return
    answers = [f"{each.content}<|im_end|>" for each in conversation if each.role == "assistant"]
    assert set(trained) <= set(answers)


def test_own_template_of_the_tokenizer_is_taken_by_default(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    own = CHATML.replace("<|im_start|>", "<|start_header_id|>")
    tokenizer = make_byte_tokenizer(own)
    assert bind("auto", tokenizer).generation_prompt == "<|start_header_id|>assistant\n"
    assert bind("chatml", tokenizer).generation_prompt == "<|im_start|>assistant\n"
    assert tokenizer.chat_template == own


def test_tokenizer_without_template_is_refused_and_told_what_to_name(byte_tokenizer: Any) -> None:
    with pytest.raises(TemplateError, match="template='chatml'") as error:
        ChatTemplate().bind(byte_tokenizer)
    assert error.value.key == "template"


NO_END = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}" + (
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def test_template_without_end_of_turn_token_is_refused(byte_tokenizer: Any) -> None:
    with pytest.raises(TemplateError, match="no special token closes an answer"):
        ChatTemplate(NO_END).bind(byte_tokenizer)


def test_end_of_turn_that_the_tokenizer_does_not_know_is_refused(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    with pytest.raises(TemplateError, match=r"no special token.*<\|im_end\|>"):
        ChatTemplate(CHATML).bind(make_byte_tokenizer(specials=("<|im_start|>",)))


NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHATML
)


def test_what_the_template_raises_is_told_with_the_turns(byte_tokenizer: Any) -> None:
    template = ChatTemplate(NO_SYSTEM).bind(byte_tokenizer)
    assert template.render(CONVERSATION) == CHATML_TURNS
    with pytest.raises(TemplateError, match=r"\(system, user, assistant\): no system turn"):
        template.segments([SYSTEM, QUESTION, ANSWER])


def test_template_that_always_raises_is_refused_when_bound(byte_tokenizer: Any) -> None:
    with pytest.raises(TemplateError, match="never mind"):
        ChatTemplate("{{ raise_exception('never mind') }}").bind(byte_tokenizer)


def test_template_with_broken_jinja_is_refused_when_bound(byte_tokenizer: Any) -> None:
    with pytest.raises(TemplateError, match=r"not valid Jinja.*endfor"):
        ChatTemplate("{% for message in messages %}").bind(byte_tokenizer)


def test_template_that_asks_differently_from_how_it_trains_is_refused(byte_tokenizer: Any) -> None:
    source = CHATML.replace("assistant\\n' }}", "bot\\n' }}")
    with pytest.raises(TemplateError) as error:
        ChatTemplate(source).bind(byte_tokenizer)
    assert str(error.value.got).endswith("<|im_start|>assistant\n")
    assert error.value.expected.endswith("<|im_start|>bot\n")


def test_template_error_is_a_data_error_so_that_rows_can_be_quarantined() -> None:
    assert issubclass(TemplateError, DataError)
