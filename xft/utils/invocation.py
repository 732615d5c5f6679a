"""The form in which a command of xft works where the user stands.

``xft`` is on the PATH only if the environment is active. Otherwise, a command is called by the path of its script, of
``tools/`` in a checkout, or as a module.
"""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from xft.utils import paths
from xft.utils.system import version_of

DISTRIBUTION = "xft-tuner"
_COMMAND = re.compile(r"(?m)(?:(?<=`)|^  )xft ([a-z][a-z-]+)")
"""A command in a message: after a backtick, or on an indented line of its own."""


def invocation(command: str) -> str:
    """Return the words that start a command, for instance ``xft chat`` or ``python tools/chat.py``.

    Args:
        command: name of the command.
    """
    if shutil.which("xft"):
        return f"xft {command}"
    script = Path(sys.executable).parent / "xft"
    if script.is_file():
        return f"{_shown(script)} {command}"
    root = paths.PACKAGE.parent
    tool = root / "tools" / f"{command.replace('-', '_')}.py"
    if tool.is_file():
        return f"{_python()} {_shown(tool)}"
    importable = root == Path.cwd() or version_of(DISTRIBUTION) is not None
    return f"{'' if importable else f'PYTHONPATH={_shown(root)} '}{_python()} -m xft {command}"


def localize(text: str) -> str:
    """Replace ``xft`` at the start of the commands in a message by a form that works."""
    return _COMMAND.sub(lambda match: match[0].replace(f"xft {match[1]}", invocation(match[1])), text)


def _python() -> str:
    """Return the name of this interpreter on the PATH, or else its path."""
    running = Path(sys.executable)
    for name in ("python", "python3"):
        if (path := shutil.which(name)) is not None and Path(path) == running:
            return name
    return _shown(running)


def _shown(path: Path) -> str:
    """Return a path as a word of a shell, relative if it is below the current folder."""
    folder = Path(os.getcwd())
    return shlex.quote(str(path.relative_to(folder) if path.is_relative_to(folder) else path))
