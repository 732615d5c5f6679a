"""Ollama's Modelfile against the chat template."""

from typing import Any

import pytest

from xft.export.ollama import find_affixes, modelfile
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import Message


@pytest.mark.parametrize("name", ["chatml", "llama3_chat", "zephyr", "phi3_chat"])
def test_affixes_render_like_the_chat_template(name: str, make_byte_tokenizer: Any) -> None:
    from xft.registry import resolve

    specials = (
        "<|im_start|>",
        "<|im_end|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|end|>",
    )
    tokenizer = make_byte_tokenizer(specials=specials)
    made: Any = resolve("template", name)()
    template = made.bind(tokenizer)
    affixes = find_affixes(template)
    assert affixes is not None
    turns = [Message("user", "a {{ b }}"), Message("assistant", "c"), Message("user", "d")]
    assert affixes.trims == (name == "llama3_chat")
    for conversation in (turns, [Message("system", "s"), *turns]):
        assert affixes.render(conversation) == template.render(conversation, generation=True)


def test_modelfile_contains_a_go_template(make_byte_tokenizer: Any) -> None:
    source = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    text, has_template = modelfile(BoundTemplate(make_byte_tokenizer(), source), "model.gguf", False)
    assert has_template
    assert text == (
        'FROM ./model.gguf\nTEMPLATE """{{ if ne (index .Messages 0).Role "system" }}<|im_start|>system\n'
        "Be kind.<|im_end|>\n{{ end }}{{ range .Messages }}"
        '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        '{{ end }}{{ end }}<|im_start|>assistant\n"""\nPARAMETER stop "<|im_end|>"\n'
    )


@pytest.mark.parametrize(
    ("system", "line"),
    [
        ("", None),
        ("Be brief.\nBe kind.", 'SYSTEM """Be brief.\nBe kind."""'),
        ('Say """.', "# The system message"),
    ],
)
def test_modelfile_has_the_system_message_of_the_training(
    system: str, line: str | None, make_byte_tokenizer: Any
) -> None:
    template = BoundTemplate(make_byte_tokenizer(), SOURCES["chatml"])
    before, _ = modelfile(template, "model.gguf", False)
    text, _ = modelfile(template, "model.gguf", False, system)
    assert text.startswith(before)
    assert text.removeprefix(before).startswith(line or "")
    assert (text == before) == (line is None)


def test_bos_that_opens_each_turn_stays_in_the_turns(smollm2_tokenizer: Any) -> None:
    assert smollm2_tokenizer.bos_token == "<|im_start|>"
    template = ChatTemplate().bind(smollm2_tokenizer)
    text, _ = modelfile(template, "model.gguf", False)
    assert '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n' in text
    affixes = find_affixes(template, bos_is_added=True)
    assert affixes is not None
    assert affixes.start == "<|im_start|>"


def test_modelfile_omits_a_template_it_cannot_express(make_byte_tokenizer: Any) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.index0 > 2 %}X{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    text, has_template = modelfile(ChatTemplate(source).bind(make_byte_tokenizer()), "model.gguf", False)
    assert not has_template
    assert 'TEMPLATE "' not in text
    assert 'PARAMETER stop "<|im_end|>"' in text
