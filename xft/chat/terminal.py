"""Talk in the terminal."""

import sys
from collections.abc import Callable

from xft.chat.session import Session

HELP = """\
/reset          forget what was said
/system TEXT    set the system turn (without TEXT: remove it) and forget what was said
/help           this
/exit           leave; so does Ctrl-D. Ctrl-C breaks an answer off"""


def talk(session: Session, read: Callable[[str], str] = input) -> None:
    """Read questions and stream answers until the user leaves.

    Args:
        session: whom to talk to.
        read: asks the user for a line; raises ``EOFError`` at the end.
    """
    _enable_line_editing()
    print("Say something. /help shows the commands.")
    while True:
        try:
            line = read("you> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /exit leaves)")
            continue
        if line.startswith("/"):
            if not _obey(session, line):
                return
        elif line:
            _answer(session, line)


def _answer(session: Session, line: str) -> None:
    print("model> ", end="", flush=True)
    pieces = session.ask(line)
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
        print(" (broken off)")


def _obey(session: Session, line: str) -> bool:
    """Do what a command says. Returns whether the talk goes on."""
    command, _, rest = line.partition(" ")
    if command in ("/exit", "/quit"):
        return False
    if command == "/reset":
        session.reset()
        print("(forgotten)")
    elif command == "/system":
        session.system = rest.strip() or None
        session.reset()
        print(f"(system: {session.system or 'none'}; the conversation begins anew)")
    else:
        print(HELP if command == "/help" else f"unknown command {command}\n{HELP}")
    return True


def _enable_line_editing() -> None:
    """Arrow keys and history for ``input``, where the platform has readline."""
    try:
        import readline  # noqa: F401 - importing it is what switches it on
    except ImportError:  # Windows: the console edits lines itself
        return
