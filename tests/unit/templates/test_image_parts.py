"""Text-only templates are changed so that they accept image parts, and write the same texts as before."""

from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from xft.errors import TemplateError
from xft.templates import SOURCES
from xft.templates.image_parts import with_image_parts

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
PARTS = [{"type": "image"}, {"type": "text", "text": "what is 'this'?"}]


def rendered(source: str, content: Any) -> str:
    """A question and its answer, rendered by transformers."""
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "a cat"}]
    texts, _ = render_jinja_template(conversations=[turns], chat_template=source, **SPECIALS)
    return str(texts[0])


@pytest.mark.parametrize("name", SOURCES)
def test_library_templates_write_images(name: str) -> None:
    source = with_image_parts(SOURCES[name], "<image>\n", SPECIALS)
    expected = rendered(SOURCES[name], "<image>\nwhat is 'this'?")
    assert rendered(source, PARTS) == rendered(source, "<image>\nwhat is 'this'?") == expected


def test_template_with_images_is_unchanged() -> None:
    once = with_image_parts(SOURCES["vicuna"], "<image>\n", SPECIALS)
    assert with_image_parts(once, "<image>\n", SPECIALS) == once != SOURCES["vicuna"]


def test_template_that_hides_contents_is_refused() -> None:
    source = (
        "{% for turn in messages %}{% for name, value in turn | items %}{{ value }}{% endfor %}{% endfor %}"
    )
    with pytest.raises(TemplateError) as caught:
        with_image_parts(source, "<image>", SPECIALS)
    assert caught.value.key == "template"
