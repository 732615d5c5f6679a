"""Command lines of this process, and for messages of a run."""

import os
import shlex
import sys
from pathlib import Path

from xft.utils.invocation import invocation

TYPED_COMMAND = "XFT_TYPED_COMMAND"
"""Environment variable with the command line of the process that starts the ranks."""


def command(name: str, *arguments: str) -> str:
    """Return a command line that works as pasted.

    Args:
        name: command of ``xft``.
        arguments: its arguments, without quotes.
    """
    return f"{invocation(name)} {shlex.join(arguments)}".rstrip()


def typed_command() -> str:
    """Return the command line that the user typed, without the folder of the program.

    Ranks that ``--nproc-per-node`` starts have that of the process that starts them.
    """
    if typed := os.environ.get(TYPED_COMMAND):
        return typed
    program = Path(sys.argv[0]).name
    words = ["python", "-m", "xft"] if program == "__main__.py" else [program]
    return shlex.join([*words, *sys.argv[1:]])


def short_path(path: Path) -> str:
    """Return a path relative to the current folder if it is below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
