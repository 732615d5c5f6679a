"""Chat templates: a conversation becomes text, and the part of it that is trained is known."""

from xft.templates.base import BoundTemplate, ChatTemplate
from xft.templates.library import SOURCES

__all__ = ["SOURCES", "BoundTemplate", "ChatTemplate"]
