"""Let a chat template that writes texts accept messages with image parts, as processors of transformers pass them."""

import re
from contextlib import suppress
from datetime import datetime
from typing import Any

from xft.errors import TemplateError
from xft.templates.jinja_env import TemplateRenderer
from xft.types import IMAGE_PLACE, Message

_CONTENT = re.compile(r"\bmessages?(?:\[-?\w+\])?(?:\.content|\[(?:'content'|\"content\")\])(?!\w)")
"""Expressions that read the content of a message."""
_MACRO = """\
{%- macro text_of(content) %}
    {%- if content is string %}{{ content }}
    {%- else %}
        {%- for part in content or [] %}
            {%- if part['type'] == 'image' %}{{ PLACE }}{% else %}{{ part['text'] }}{% endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
"""
_TURNS = (
    Message("system", "rules"),
    Message("user", f"{IMAGE_PLACE}a question"),
    Message("assistant", "an answer"),
    Message("user", f"one {IMAGE_PLACE} more"),
)


def with_image_parts(source: str, place: str, special_tokens: dict[str, Any]) -> str:
    """Return a template that writes ``place`` for each image part of a message, and the same texts as before.

    Args:
        source: Jinja source. One that writes images already is returned unchanged.
        place: text that stands for an image.
        special_tokens: special tokens of the tokenizer by name.

    Raises:
        TemplateError: the template reads contents in a way that cannot be changed.
    """
    if _writes(source, place, special_tokens):
        return source
    literal = "'" + place.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    changed = _MACRO.replace("PLACE", literal) + _CONTENT.sub(lambda match: f"text_of({match[0]})", source)
    if not _writes(changed, place, special_tokens):
        raise TemplateError(
            "the chat template cannot write images, and processors of transformers pass images as parts of a content; "
            "expected a template that supports image parts",
            key="template",
        )
    return changed


def _writes(source: str, place: str, special_tokens: dict[str, Any]) -> bool:
    """Return whether a template writes ``place`` where a message has an image part."""
    renderer = TemplateRenderer(source, special_tokens, datetime.now())
    for turns in (_TURNS, _TURNS[1:]):  # some templates have no system message
        with suppress(TemplateError):
            plain = [Message(turn.role, turn.content.replace(IMAGE_PLACE, place)) for turn in turns]
            return place in (text := renderer.render(turns)) and text == renderer.render(plain)
    return False
