"""Options of a template: variables of the source, and values that are refused."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from helpers import jinja_sources as jinja

from xft.errors import ConfigError, TemplateError
from xft.templates import BoundTemplate, ChatTemplate
from xft.templates.template_options import with_default_kwargs
from xft.types import Message

QUESTION = [Message("user", "Rain?")]
EMPTY = "<think>\n\n</think>\n\n"


@pytest.fixture
def bind(make_byte_tokenizer: Callable[..., Any]) -> Callable[..., BoundTemplate]:
    tokenizer = make_byte_tokenizer(specials=jinja.SPECIALS)
    return lambda source, **options: ChatTemplate(source, **options).bind(tokenizer)


def test_variables_of_a_conversation_replace_those_of_the_config(
    bind: Callable[..., BoundTemplate],
) -> None:
    template = bind(jinja.OPENED_THOUGHT, chat_template_kwargs={"enable_thinking": False})
    assert template.render(QUESTION, generation=True).endswith(EMPTY)
    assert template.with_kwargs({}) is template
    thinking = template.with_kwargs({"enable_thinking": True})
    assert thinking is template.with_kwargs({"enable_thinking": True})
    assert thinking.render(QUESTION, generation=True).endswith("assistant\n<think>\n")
    again = pickle.loads(pickle.dumps(thinking))
    assert again.render(QUESTION, generation=True) == thinking.render(QUESTION, generation=True)


def test_variables_of_the_config_are_saved_with_the_model(bind: Callable[..., BoundTemplate]) -> None:
    """Any program that renders the saved source writes the prompts of the training."""
    template = bind(jinja.OPENED_THOUGHT, chat_template_kwargs={"enable_thinking": False})
    tokenizer: Any = template.tokenizer
    for kwargs, end in (({}, EMPTY), ({"enable_thinking": True}, "assistant\n<think>\n")):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Rain?"}],
            chat_template=template.source,
            tokenize=False,
            add_generation_prompt=True,
            **kwargs,
        )
        assert text.endswith(end)


@pytest.mark.parametrize(
    "value", [True, None, 3, 1.5, 'it\'s "so" \\ {{ 1 }} 中 🙂', [1, [None]], {"a": [{"b": False}]}, "\n"]
)
def test_default_of_a_variable_is_its_value(value: Any, bind: Callable[..., BoundTemplate]) -> None:
    source = (
        "\n{{ (given if given is defined else 0) | tojson }}"
        + jinja.TURNS
        + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    expected = bind(source).with_kwargs({"given": value}).render(QUESTION)
    assert bind(source, chat_template_kwargs={"given": value}).render(QUESTION) == expected
    assert with_default_kwargs(source, {}) == source


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"empty_thought": "drop"}, "template.empty_thought"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
        ({"chat_template_kwargs": {"a b": 1}}, "chat_template_kwargs.a b"),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs"),
    ],
)
def test_invalid_option_raises(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        ChatTemplate(**options)
    assert error.value.key == key


def test_variable_that_is_not_json_raises() -> None:
    with pytest.raises(TemplateError) as error:
        ChatTemplate(chat_template_kwargs={"when": object()})
    assert error.value.key == "chat_template_kwargs.when"


@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "rain"}}]])
def test_tokenizer_with_a_template_for_tools_renders_as_transformers(
    tools: Any, make_byte_tokenizer: Callable[..., Any]
) -> None:
    """Command R and Hermes have two templates; the line breaks around them must survive the combination."""
    tokenizer = make_byte_tokenizer(specials=jinja.SPECIALS)
    tokenizer.chat_template = {
        "default": "\n" + jinja.TURNS + "\n",
        "tool_use": "\n{% set x = 1 %}\n{% for tool in tools %}{{ tool.function.name }}\n{% endfor %}"
        + jinja.TURNS
        + "  ",
        "rag": "{{ documents }}",
    }
    template = ChatTemplate().bind(tokenizer)
    turns = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}]
    messages = [Message(turn["role"], turn["content"], turn["role"] == "assistant") for turn in turns]
    expected = tokenizer.apply_chat_template(turns, tools=tools, tokenize=False)
    assert template.render(messages, tools=tools or ()) == expected
    tokenizer.chat_template = template.source
    assert tokenizer.apply_chat_template(turns, tools=tools, tokenize=False) == expected


def test_removed_thought_in_the_generation_prompt_is_refused(bind: Callable[..., BoundTemplate]) -> None:
    """The model would be trained without the thinking block with which it is prompted."""
    off = {"enable_thinking": False}
    with pytest.raises(ConfigError) as caught:
        bind(jinja.OPENED_THOUGHT, empty_thought="absent", chat_template_kwargs=off)
    assert (caught.value.key, caught.value.got) == ("template.empty_thought", "absent")
    template = bind(jinja.OPENED_THOUGHT, empty_thought="absent")
    turns = [*QUESTION, Message("assistant", "No.", True)]
    assert "".join(segment.text for segment in template.segments(turns)).count("think") == 0
    row = template.with_kwargs(off)
    assert row.render(QUESTION, generation=True).endswith(EMPTY)
    with pytest.raises(TemplateError) as refused:
        row.segments(turns)
    assert refused.value.key == "template.empty_thought"
