"""Commands of the chat: lines that start with a slash."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xft.errors import DataError, did_you_mean
from xft.serving.session import Session
from xft.templates.message_fields import JinjaMessage, as_parts
from xft.types import Message

NextAction = Literal["read", "regenerate", "exit"]
"""Action of the chat after a command: read the next line, answer the last message again, or exit."""


@dataclass(frozen=True)
class SlashCommand:
    """Command of the chat.

    Attributes:
        argument: argument as the help shows it; empty for none.
        summary: effect of the command, for the help.
        run: applies the command to the sessions, given the text after its name. Returns the text to print and the
            next action.
    """

    argument: str
    summary: str
    run: Callable[[Sequence[Session], str], tuple[str, NextAction]]


def run_command(sessions: Sequence[Session], line: str) -> tuple[str, NextAction]:
    """Run the command of a line that starts with a slash.

    Args:
        sessions: open sessions; ``/save`` and ``/regenerate`` read the last one.
        line: typed line.

    Returns:
        The text to print and the next action.
    """
    name, _, argument = line.partition(" ")
    if name not in COMMANDS:
        return f"unknown command {name}; {did_you_mean(name, COMMANDS)} /help lists the commands", "read"
    return COMMANDS[name].run(sessions, argument.strip())


def _reset(sessions: Sequence[Session], argument: str) -> tuple[str, NextAction]:
    for session in sessions:
        session.reset()
    return "(history cleared)", "read"


def _system(sessions: Sequence[Session], argument: str) -> tuple[str, NextAction]:
    for session in sessions:
        session.system = argument or None
        session.reset()
    return f"(system message: {argument or 'none'}; history cleared)", "read"


def _temperature(sessions: Sequence[Session], argument: str) -> tuple[str, NextAction]:
    try:
        value = float(argument)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        return f"/temperature: got {argument or 'nothing'!r}, expected a number from 0 to 10", "read"
    for session in sessions:
        session.temperature = value
    return f"(temperature: {value:g})", "read"


def _regenerate(sessions: Sequence[Session], argument: str) -> tuple[str, NextAction]:
    if not sessions[-1].history:
        return "/regenerate: no answer yet", "read"
    note = "" if sessions[-1].temperature > 0 else "(temperature 0 gives the same answer again)"
    return note, "regenerate"


def _image(sessions: Sequence[Session], argument: str) -> tuple[str, NextAction]:
    if not argument:
        return "/image: expected the name of a file", "read"
    try:
        image = [session.attach(str(Path(argument).expanduser())) for session in sessions][-1]
    except DataError as error:
        return f"/image: {error}", "read"
    count = len(sessions[-1].images)
    return f"({image.width}x{image.height} pixels, shown with the next message; {count} so far)", "read"


def _save(sessions: Sequence[Session], argument: str) -> tuple[str, NextAction]:
    session = sessions[-1]
    if not argument:
        return "/save: expected the name of a file", "read"
    if not session.history:
        return "/save: the conversation is empty", "read"
    system = [{"role": "system", "content": session.system}] if session.system else []
    turns = [{"role": message.role, "content": _content(message)} for message in session.history]
    try:
        with Path(argument).expanduser().open("a", encoding="utf-8") as file:
            file.write(json.dumps({"messages": [*system, *turns]}, ensure_ascii=False) + "\n")
    except OSError as error:
        return f"/save: cannot write {argument} ({error.strerror})", "read"
    return f"(appended the conversation to {argument} as one row)", "read"


def _content(message: Message) -> str | list[JinjaMessage]:
    """Return the content of a message as a training row has it: parts if there are images."""
    if not message.images:
        return message.content
    parts, images = as_parts(message.content), iter(message.images)
    return [{**part, "image": next(images).path} if part["type"] == "image" else part for part in parts]


def _help(sessions: Sequence[Session], argument: str) -> tuple[str, NextAction]:
    rows = [(f"{name} {command.argument}".rstrip(), command.summary) for name, command in COMMANDS.items()]
    width = max(len(usage) for usage, _ in rows)
    return "\n".join([*(f"{usage:<{width}}  {summary}" for usage, summary in rows), *_KEYS]), "read"


def _exit(sessions: Sequence[Session], argument: str) -> tuple[str, NextAction]:
    return "", "exit"


_KEYS = (
    "Alt-Enter, or a \\ at the end of a line, starts a new line. Tab completes.",
    "Ctrl-C interrupts an answer; Ctrl-D exits.",
)

COMMANDS: dict[str, SlashCommand] = {
    "/reset": SlashCommand("", "clear the history", _reset),
    "/system": SlashCommand(
        "TEXT", "set the system message (no TEXT: remove it); clear the history", _system
    ),
    "/regenerate": SlashCommand("", "answer the last message again", _regenerate),
    "/temperature": SlashCommand("T", "set the sampling temperature; 0 is greedy decoding", _temperature),
    "/image": SlashCommand("FILE", "show an image with the next message", _image),
    "/save": SlashCommand("FILE", "append the conversation to FILE as a training row", _save),
    "/help": SlashCommand("", "list the commands", _help),
    "/exit": SlashCommand("", "exit", _exit),
    "/quit": SlashCommand("", "exit", _exit),
}
