"""What a user may ask of the chat itself: lines that begin with a slash."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xft.errors import did_you_mean
from xft.serving.session import Session

After = Literal["go on", "ask again", "leave"]


@dataclass(frozen=True)
class Slash:
    """A command of the chat.

    Attributes:
        argument: what follows its name, as the help shows it.
        summary: what it does.
        run: does it to the sessions, with what was typed behind the name; gives what to print, and what
            happens next.
    """

    argument: str
    summary: str
    run: Callable[[Sequence[Session], str], tuple[str, After]]


def obey(sessions: Sequence[Session], line: str) -> tuple[str, After]:
    """Do what a line that begins with a slash says.

    Args:
        sessions: the conversations that are held, the one that counts last.
        line: what was typed.

    Returns:
        What to print, and what happens next.
    """
    name, _, rest = line.partition(" ")
    if name not in COMMANDS:
        return f"unknown command {name}; {did_you_mean(name, COMMANDS)} /help shows what they do", "go on"
    return COMMANDS[name].run(sessions, rest.strip())


def _reset(sessions: Sequence[Session], rest: str) -> tuple[str, After]:
    for each in sessions:
        each.reset()
    return "(forgotten)", "go on"


def _system(sessions: Sequence[Session], rest: str) -> tuple[str, After]:
    for each in sessions:
        each.system = rest or None
        each.reset()
    return f"(system: {rest or 'none'}; the conversation begins anew)", "go on"


def _temperature(sessions: Sequence[Session], rest: str) -> tuple[str, After]:
    try:
        value = float(rest)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        return f"/temperature: got {rest or 'nothing'!r}, expected a number from 0 to 10", "go on"
    for each in sessions:
        each.temperature = value
    return f"(temperature: {value:g})", "go on"


def _regenerate(sessions: Sequence[Session], rest: str) -> tuple[str, After]:
    if not sessions[-1].history:
        return "/regenerate: nothing was answered yet", "go on"
    same = "" if sessions[-1].temperature > 0 else "(temperature 0 gives the same answer again)"
    return same, "ask again"


def _save(sessions: Sequence[Session], rest: str) -> tuple[str, After]:
    session = sessions[-1]
    if not rest:
        return "/save: which file?", "go on"
    if not session.history:
        return "/save: nothing was said yet", "go on"
    system = [{"role": "system", "content": session.system}] if session.system else []
    turns = [{"role": each.role, "content": each.content} for each in session.history]
    try:
        with Path(rest).expanduser().open("a", encoding="utf-8") as file:
            file.write(json.dumps({"messages": [*system, *turns]}, ensure_ascii=False) + "\n")
    except OSError as error:
        return f"/save: cannot write {rest} ({error.strerror})", "go on"
    return f"(added {len(session.history) // 2} question(s) and answer(s) to {rest}, as one row)", "go on"


def _help(sessions: Sequence[Session], rest: str) -> tuple[str, After]:
    rows = [(f"{name} {each.argument}".rstrip(), each.summary) for name, each in COMMANDS.items()]
    width = max(len(each) for each, _ in rows)
    return "\n".join([*(f"{left:<{width}}  {right}" for left, right in rows), *_KEYS]), "go on"


def _exit(sessions: Sequence[Session], rest: str) -> tuple[str, After]:
    return "", "leave"


_KEYS = (
    "A line that ends in \\ goes on in the next one; so does Alt-Enter. Tab completes.",
    "Ctrl-C breaks an answer off; Ctrl-D leaves.",
)

COMMANDS: dict[str, Slash] = {
    "/reset": Slash("", "forget what was said", _reset),
    "/system": Slash("TEXT", "set the system turn (without TEXT: remove it), and forget", _system),
    "/regenerate": Slash("", "answer the last question again", _regenerate),
    "/temperature": Slash("T", "0: the likeliest token each time; more: more variety", _temperature),
    "/save": Slash("FILE", "add the conversation to FILE, as a row that xft trains on", _save),
    "/help": Slash("", "this", _help),
    "/exit": Slash("", "leave", _exit),
    "/quit": Slash("", "leave", _exit),
}
