"""Chat templates for models whose tokenizer brings none, by the names XTuner's users know.

Each is Jinja source, written to give the text that the model's authors document; where a
tokenizer with the official template is at hand, a test compares the two. What XTuner wrote
otherwise is kept under ``<name>_xtuner``, for checkpoints that were trained with it.
"""

from xft.registry import register
from xft.templates.base import ChatTemplate
from xft.templates.library import chatml, chinese, instruct, llama, xtuner
from xft.templates.library.blocks import Entry

_ENTRIES: dict[str, Entry] = {
    **chatml.TEMPLATES,
    **llama.TEMPLATES,
    **instruct.TEMPLATES,
    **chinese.TEMPLATES,
    **xtuner.TEMPLATES,
}
SOURCES: dict[str, str] = {name: entry.source for name, entry in _ENTRIES.items()}
"""The Jinja source of each template of the library, by name."""

DESCRIPTIONS: dict[str, str] = {name: entry.description for name, entry in _ENTRIES.items()}
"""One line for each: what it looks like, and for which models."""


@register("template", "auto")
class TokenizersOwn(ChatTemplate):
    """The template that the tokenizer brings."""

    def __init__(self) -> None:
        super().__init__(None)


@register("template", "jinja")
class Jinja(ChatTemplate):
    """A Jinja source of your own, under ``source``."""

    def __init__(self, source: str) -> None:
        super().__init__(source)


def _register(name: str, source: str) -> None:
    class Named(ChatTemplate):
        def __init__(self) -> None:
            super().__init__(source)

    Named.__doc__ = DESCRIPTIONS[name]
    register("template", name)(Named)


for _name, _source in SOURCES.items():
    _register(_name, _source)
