"""The Jinja environment is that of ``apply_chat_template`` in transformers."""

import pickle
from datetime import datetime
from typing import Any

import pytest
from helpers import jinja_sources as jinja

from xft.errors import TemplateError
from xft.sandbox.environment import tojson
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.templates.jinja_env import (
    TemplateRenderer,
    compile_source,
    referenced_names,
    special_tokens_of,
)
from xft.types import IMAGE_PLACE, Image, Message

NOW = datetime(2031, 5, 4)


def official(template: BoundTemplate, messages: list[Message]) -> str:
    """Render the same source with transformers."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    tokenizer: Any = template.tokenizer
    return tokenizer.apply_chat_template(
        turns, chat_template=template.source, tokenize=False, return_dict=False
    )


SYSTEMS = ("aXb", "other", "", "a", " aXb ", "Xx", "\n", "b", "XaX", "<think>", "y%s")
PLAIN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EXPRESSIONS = [
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


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_rendering_equals_transformers_for_any_use_of_the_content(
    expression: str, byte_tokenizer: Any
) -> None:
    """The same template renders several contents in turn: nothing cached for one may be used for another."""
    prefix = "{% if messages[0].role == 'system' %}{% for message in messages[:1] %}" + expression
    template = ChatTemplate(prefix + "{% endfor %}{% endif %}" + PLAIN).bind(byte_tokenizer)
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
        assert "".join(segment.text for segment in segments) == expected, content
        assert [segment.text for segment in segments if segment.is_target] == ["Hello!<|im_end|>"]
    assert set(refused) < set(SYSTEMS)


def test_strftime_now_writes_the_date_of_binding(byte_tokenizer: Any) -> None:
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
def test_private_names_in_a_namespace_raise_template_error(name: str, byte_tokenizer: Any) -> None:
    source = "{% set ns = namespace() %}{% set ns." + name + " = 1 %}" + PLAIN
    with pytest.raises(TemplateError) as error:
        ChatTemplate(source).bind(byte_tokenizer)
    assert (error.value.key, name in str(error.value)) == ("template", True)


def test_source_that_is_not_jinja_raises_template_error_with_its_line() -> None:
    with pytest.raises(TemplateError) as error:
        compile_source("line 1\n{% if %}")
    assert error.value.key == "template"
    assert "line 2" in str(error.value)


def test_render_that_fails_raises_template_error_with_the_roles() -> None:
    renderer = TemplateRenderer("{{ raise_exception('no system') }}", {}, NOW)
    with pytest.raises(TemplateError) as error:
        renderer.render([Message("system", "x"), Message("user", "y")])
    assert (error.value.key, error.value.got) == ("template", "system, user")


def test_renderer_knows_what_the_source_reads() -> None:
    renderer = TemplateRenderer("{{ messages[0].content }}{{ messages[0]['x'] }}", {}, NOW)
    assert (renderer.names, renderer.uses_current_date) == ({"messages", "content", "x"}, False)
    assert TemplateRenderer("{{ strftime_now('%Y') }}", {}, NOW).uses_current_date
    assert referenced_names("{{ a.b['c'] }}") == {"a", "b", "c"}


def test_tojson_keeps_html_and_unicode_characters() -> None:
    assert tojson({"a": "<é>"}) == '{"a": "<é>"}'


def test_special_tokens_are_texts_by_name(byte_tokenizer: Any) -> None:
    tokens = special_tokens_of(byte_tokenizer)
    assert (tokens["bos_token"], tokens["eos_token"]) == ("<s>", "</s>")


_READS_PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<img>{% else %}{{ p['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_READS_BOTH = _READS_PARTS.replace(
    "{% for p in m['content'] %}",
    "{% for p in ([{'type': 'text', 'text': m['content']}] if m['content'] is string else m['content']) %}",
)
_SHOWN = [
    Message("user", f"See {IMAGE_PLACE}!", images=(Image("a.png"),)),
    Message("assistant", "Yes", True),
]


@pytest.mark.parametrize("source", [_READS_PARTS, _READS_BOTH])
def test_template_that_reads_parts_gets_the_places_of_images(byte_tokenizer: Any, source: str) -> None:
    template = ChatTemplate(source).bind(byte_tokenizer)
    assert [(segment.text, segment.is_target) for segment in template.segments(_SHOWN)] == [
        ("<|im_start|>user\nSee <img>!<|im_end|>\n<|im_start|>assistant\n", False),
        ("Yes<|im_end|>", True),
        ("\n", False),
    ]
    plain = [Message("user", "Hi"), Message("assistant", "Yes", True)]
    assert template.render(plain).startswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes")


def test_template_that_reads_texts_keeps_the_places_of_images(byte_tokenizer: Any) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    assert f"See {IMAGE_PLACE}!" in template.render(_SHOWN)


def test_template_that_drops_the_text_around_an_image_raises(byte_tokenizer: Any) -> None:
    source = _READS_BOTH.replace("{% else %}", "{% elif p['text'] != '!' %}")
    template = ChatTemplate(source).bind(byte_tokenizer)
    with pytest.raises(TemplateError) as caught:
        template.render(_SHOWN)
    assert caught.value.got == f"See {IMAGE_PLACE}!"


def test_template_that_reads_parts_gets_the_text_as_a_part(make_byte_tokenizer: Any) -> None:
    """The text is that of ``apply_chat_template`` for messages with a list of parts."""
    tokenizer = make_byte_tokenizer(jinja.PARTS, jinja.SPECIALS)
    messages = [Message("system", "Be brief."), Message("user", "Rain?"), Message("assistant", "No.", True)]
    turns = [
        {"role": message.role, "content": [{"type": "text", "text": message.content}]}
        for message in messages
    ]
    template = ChatTemplate().bind(tokenizer)
    assert template.render(messages) == tokenizer.apply_chat_template(turns, tokenize=False)
    assert [segment.text for segment in template.segments(messages) if segment.is_target] == ["No.<|end|>"]
