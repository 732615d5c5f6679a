"""Chat: talk to what was trained, in the template that it was trained with."""

from xft.serving.session import Session, open_session
from xft.serving.terminal import talk

__all__ = ["Session", "open_session", "talk"]
