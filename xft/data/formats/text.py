"""Read raw text."""

from xft.data.formats.getters import get_text
from xft.registry import register
from xft.types import Row


@register("format", "text", "pretrain")
def text(row: Row, text: str = "text") -> str:
    """Raw text for continued pretraining: a column ``text``, or a ``.txt`` file.

    ``pretrain`` is XTuner's name for it. The text stays unchanged; XTuner strips it.

    Example:
        ``{"text": "Once upon a time ..."}``
    """
    return get_text(row, text)
