"""Text input in a terminal, with editing, history, completion and multi-line texts."""

import sys
from collections.abc import Callable, Iterable, Mapping

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.utils import is_dumb_terminal

CONTINUATION_PROMPT = "...> "
ReadText = Callable[[str], str]
"""Shows a prompt and returns the text that the user types; raises ``EOFError`` at the end of the input."""


def make_reader(commands: Mapping[str, str]) -> ReadText:
    """Return an editor if input and output are a terminal, else plain line input.

    Args:
        commands: command names to complete, each with its summary.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or is_dumb_terminal():
        return read_multiline(input)
    session: PromptSession[str] = PromptSession(
        completer=SlashCompleter(commands),
        key_bindings=_key_bindings(),
        multiline=True,
        prompt_continuation=lambda width, line, wrapped: CONTINUATION_PROMPT,
        reserve_space_for_menu=min(8, len(commands)),
    )
    return session.prompt


def read_multiline(read_line: ReadText) -> ReadText:
    """Wrap ``read_line`` to join each line that ends in a backslash with the next line."""

    def read_text(prompt: str) -> str:
        text = read_line(prompt)
        while text.endswith("\\"):
            text = text[:-1] + "\n" + read_line(CONTINUATION_PROMPT)
        return text

    return read_text


class SlashCompleter(Completer):
    """Completes command names at the start of a text, and file names after ``/save``.

    Args:
        commands: command names, each with its summary.
    """

    def __init__(self, commands: Mapping[str, str]) -> None:
        self.commands = commands
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield the completions at the cursor."""
        text = document.text_before_cursor
        if text.startswith("/save "):
            path = text.removeprefix("/save ").lstrip()
            yield from self._files.get_completions(Document(path, len(path)), complete_event)
        elif text.startswith("/") and not any(character.isspace() for character in text):
            for name, summary in self.commands.items():
                if name.startswith(text):
                    yield Completion(name, -len(text), display_meta=summary)


def _key_bindings() -> KeyBindings:
    """Bind Enter to send the text, or to start a new line after a backslash; Alt-Enter starts a new line."""
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        state = buffer.complete_state
        if state is not None and state.current_completion is not None:
            buffer.complete_state = None
        elif buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _start_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
