"""Where the user types: editing, history, completion and several lines, in a terminal."""

import sys
from collections.abc import Callable, Iterable, Mapping

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.utils import is_dumb_terminal

MORE = "...> "
Read = Callable[[str], str]


def reader(commands: Mapping[str, str]) -> Read:
    """What asks the user for a text: with an editor in a terminal, and plainly elsewhere.

    Args:
        commands: names to complete, each with what it does.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or is_dumb_terminal():
        return continued(input)
    session: PromptSession[str] = PromptSession(
        completer=SlashCompleter(commands),
        key_bindings=_keys(),
        multiline=True,
        prompt_continuation=lambda width, line, wrapped: MORE,
        reserve_space_for_menu=min(8, len(commands)),
    )
    return session.prompt


def continued(read: Read) -> Read:
    """Read on after a line that ends in a backslash."""

    def whole(prompt: str) -> str:
        text = read(prompt)
        while text.endswith("\\"):
            text = text[:-1] + "\n" + read(MORE)
        return text

    return whole


class SlashCompleter(Completer):
    """Completes the names of commands at the beginning of a text, and files behind ``/save``.

    Args:
        commands: the names, each with what it does.
    """

    def __init__(self, commands: Mapping[str, str]) -> None:
        self.commands = commands
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What may stand where the cursor is."""
        text = document.text_before_cursor
        if text.startswith("/save "):
            name = text.removeprefix("/save ").lstrip()
            yield from self._files.get_completions(Document(name, len(name)), complete_event)
        elif text.startswith("/") and not any(each.isspace() for each in text):
            for name, summary in self.commands.items():
                if name.startswith(text):
                    yield Completion(name, -len(text), display_meta=summary)


def _keys() -> KeyBindings:
    """Enter sends what was typed, unless a backslash stands before it; Alt-Enter begins a line."""
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
    def _begin_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
