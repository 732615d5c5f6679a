"""Chat in a terminal."""

import sys
from collections.abc import Sequence
from contextlib import closing

from xft.serving.line_input import ReadText, make_reader, read_multiline
from xft.serving.session import Session
from xft.serving.side_by_side import SideBySideView
from xft.serving.slash_commands import COMMANDS, run_command
from xft.utils.console import echo, shorten

INTERRUPTED_MARK = " (interrupted)"


def chat_loop(session: Session, read: ReadText | None = None, base: Session | None = None) -> None:
    """Read messages and stream answers until the user exits.

    Args:
        session: session with the fine-tuned model.
        read: reads one line; by default an editor in a terminal and plain input elsewhere.
        base: session with the base model, shown next to ``session`` for comparison.
    """
    if read is None:
        read = make_reader({name: command.summary for name, command in COMMANDS.items()})
    else:
        read = read_multiline(read)
    sessions = [session] if base is None else [base, session]
    echo("Type a message. /help lists the commands.")
    if session.system:
        echo(f"(system message: {shorten(session.system, 200)})")
    while True:
        try:
            text = read("you> ").strip()
        except EOFError:
            echo()
            return
        except KeyboardInterrupt:
            echo("\n(Ctrl-D or /exit exits)")
            continue
        if text.startswith("/"):
            output, action = run_command(sessions, text)
            if output:
                echo(output)
            if action == "exit":
                return
            if action == "regenerate":
                messages = [current.pop_last_turn() for current in sessions]
                _answer(sessions, messages[-1] or "")
        elif text:
            _answer(sessions, text)


def _answer(sessions: Sequence[Session], text: str) -> None:
    if len(sessions) == 1:
        _stream(sessions[0], text, "model> ")
    elif sys.stdout.isatty():
        _stream_side_by_side(sessions, text)
    else:
        for session, name in zip(sessions, ("base> ", "tuned> "), strict=True):
            if not _stream(session, text, name):
                return


def _stream(session: Session, text: str, name: str) -> bool:
    """Print an answer while it is generated; return False if the user interrupts it."""
    echo(name, end="", flush=True)
    with closing(session.ask(text)) as pieces:
        try:
            for piece in pieces:
                echo(piece, end="", flush=True)
            echo()
        except KeyboardInterrupt:
            pieces.close()
            echo(INTERRUPTED_MARK)
            return False
    return True


def _stream_side_by_side(sessions: Sequence[Session], text: str) -> None:
    """Stream the answers of base and tuned model in two columns, one after the other.

    Both come from one model in memory, with its adapter off and on.
    """
    with SideBySideView(("base", "tuned")) as view:
        for column, session in enumerate(sessions):
            with closing(session.ask(text)) as pieces:
                try:
                    for piece in pieces:
                        view.append(column, piece)
                except KeyboardInterrupt:
                    pieces.close()
                    view.append(column, INTERRUPTED_MARK)
                    return
