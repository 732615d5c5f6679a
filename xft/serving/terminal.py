"""Talk in the terminal."""

import sys
from collections.abc import Generator as Pieces
from collections.abc import Sequence
from contextlib import closing
from typing import cast

from xft.serving.line_input import Read, continued, reader
from xft.serving.session import Session
from xft.serving.side_by_side import Beside
from xft.serving.slash_commands import COMMANDS, obey
from xft.utils.console import escape_control_chars

BROKEN_OFF = " (broken off)"


def talk(session: Session, read: Read | None = None, base: Session | None = None) -> None:
    """Read questions and stream answers until the user leaves.

    Args:
        session: whom to talk to.
        read: asks the user for a line; raises ``EOFError`` at the end. By default an editor in a
            terminal, and plain input elsewhere.
        base: who answers beside it, for comparison.
    """
    if read is None:
        read = reader({name: each.summary for name, each in COMMANDS.items()})
    else:
        read = continued(read)
    sessions = [session] if base is None else [base, session]
    print("Say something. /help shows the commands.")
    while True:
        try:
            text = read("you> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /exit leaves)")
            continue
        if text.startswith("/"):
            said, after = obey(sessions, text)
            if said:
                print(said)
            if after == "leave":
                return
            if after == "ask again":
                questions = [each.take_back() for each in sessions]
                _answer(sessions, questions[-1] or "")
        elif text:
            _answer(sessions, text)


def _answer(sessions: Sequence[Session], text: str) -> None:
    if len(sessions) == 1:
        _stream(sessions[0], text, "model> ")
    elif sys.stdout.isatty():
        _stream_beside(sessions, text)
    else:
        for session, name in zip(sessions, ("base> ", "tuned> "), strict=True):
            if not _stream(session, text, name):
                return


def _stream(session: Session, text: str, name: str) -> bool:
    """Print an answer as it comes. Returns whether it came to its end."""
    print(name, end="", flush=True)
    with closing(_pieces(session, text)) as pieces:
        try:
            for piece in pieces:
                sys.stdout.write(escape_control_chars(piece))
                sys.stdout.flush()
            print()
        except KeyboardInterrupt:
            pieces.close()
            print(BROKEN_OFF)
            return False
    return True


def _stream_beside(sessions: Sequence[Session], text: str) -> None:
    """Two answers in two columns, the base's first: one model gives both, with its adapter off and on."""
    with Beside(("base", "tuned")) as columns:
        for side, session in enumerate(sessions):
            with closing(_pieces(session, text)) as pieces:
                try:
                    for piece in pieces:
                        columns.add(side, escape_control_chars(piece))
                except KeyboardInterrupt:
                    pieces.close()
                    columns.add(side, BROKEN_OFF)
                    return


def _pieces(session: Session, text: str) -> Pieces[str, None, None]:
    return cast(Pieces[str, None, None], session.ask(text))
