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
