"""Render conversations with chat templates, and locate the target spans in the text."""

from xft.templates.base import BoundTemplate, ChatTemplate
from xft.templates.library import SOURCES
from xft.templates.template_options import TemplateOptions

__all__ = ["SOURCES", "BoundTemplate", "ChatTemplate", "TemplateOptions"]
