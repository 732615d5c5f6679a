"""``xft docs``: the documentation as text, for a terminal or an editor's assistant."""

import argparse
from pathlib import Path

from xft.commands.shared import Command
from xft.errors import ConfigError, did_you_mean
from xft.utils import paths
from xft.utils.console import echo

_LEFT_OUT = ("api", "index")
"""Pages that consist of directives for the site, or of links."""


def pages() -> dict[str, Path]:
    """Return the files of the documentation by name, such as ``data`` or ``zh/hundred-rows``."""
    folder = paths.docs()
    files = {file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.md")}
    return {name: file for name, file in sorted(files.items()) if name not in _LEFT_OUT}


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "page", metavar="PAGE", nargs="?", help="name of a page, or `all` (default: list them)"
    )


def _run(arguments: argparse.Namespace) -> None:
    known = pages()
    if arguments.page is None:
        for name, file in known.items():
            title = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            echo(f"{name:24} {title}")
    elif arguments.page == "all":
        for file in known.values():
            echo(file.read_text(encoding="utf-8"))
    elif arguments.page in known:
        echo(known[arguments.page].read_text(encoding="utf-8"))
    else:
        raise ConfigError(
            key="PAGE",
            got=arguments.page,
            expected="a page of `xft docs`",
            fix=did_you_mean(arguments.page, known),
        )


DOCS = Command(
    "print the documentation as text",
    _add,
    _run,
    examples=("xft docs", "xft docs data"),
)
