"""Chat with a fine-tuned model, in a terminal or over HTTP."""

from xft.serving.session import Session, open_session
from xft.serving.terminal import chat_loop

__all__ = ["Session", "chat_loop", "open_session"]
