"""Chats whose input is a list of lines and whose answers repeat the messages."""

from collections.abc import Sequence
from dataclasses import dataclass

from helpers.generators import EchoGenerator
from xft.serving import Session, chat_loop


@dataclass
class Chat:
    """Finished chat.

    Attributes:
        session: session of the fine-tuned model; answers start with ``new``.
        generator: its generator.
        base: generator of the base model; answers start with ``old``.
    """

    session: Session
    generator: EchoGenerator
    base: EchoGenerator

    @property
    def history(self) -> list[tuple[str, str]]:
        """History of the session as (role, content) pairs."""
        return [(message.role, message.content) for message in self.session.history]


def run_chat(lines: Sequence[str], compare_base: bool = False) -> Chat:
    """Run a chat on the lines that a user types."""
    remaining = iter(lines)

    def read(prompt: str) -> str:
        try:
            return next(remaining)
        except StopIteration:
            raise EOFError from None

    generator, base = EchoGenerator("new "), EchoGenerator("old ")
    session = Session(generator)
    chat_loop(session, read, Session(base) if compare_base else None)
    return Chat(session, generator, base)
