"""Chat: talk to what was trained, in the template that it was trained with."""

from xft.chat.session import Session, open_session
from xft.chat.terminal import talk

__all__ = ["Session", "open_session", "talk"]
