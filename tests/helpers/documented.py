"""What README, docs and ``--help`` tell a person to type."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xft.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README_zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
_THIN = re.compile(r'sys\.exit\(main\(\["([\w-]+)"')
_BLOCK = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Typed:
    """A command of a page.

    Attributes:
        page: where it stands.
        words: as a shell parts them.
    """

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"

    @property
    def arguments(self) -> list[str] | None:
        """What ``xft`` gets, however it is called; ``None`` where it is another program."""
        if self.words[0] == "xft":
            return list(self.words[1:])
        if self.words[0] == "python" and self.words[1].startswith("tools/"):
            called = _THIN.search((ROOT / self.words[1]).read_text(encoding="utf-8"))
            if called is not None:
                return [called[1], *self.words[2:]]
        return None


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The code blocks of a page in these languages, without the indent of the list they stand in."""
    for language, body in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            indent = min(
                (len(each) - len(each.lstrip()) for each in body.splitlines() if each.strip()), default=0
            )
            yield "\n".join(each[indent:] for each in body.splitlines())


def commands() -> list[Typed]:
    """Every command of every page, and every example of ``--help``, each once."""
    found: dict[tuple[str, ...], Typed] = {}
    for page in PAGES:
        lines = [line for body in blocks(page, "bash") for line in _lines(body)]
        # In a console, what is typed stands behind a prompt, and what is printed below it.
        lines += [
            line[2:] for body in blocks(page, "console") for line in _lines(body) if line.startswith("$ ")
        ]
        _add(found, page, lines)
    for page in NOTEBOOKS:
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        lines = [line for cell in cells if cell["cell_type"] == "code" for line in cell["source"]]
        _add(found, page, [line[1:] for line in lines if line.startswith("!")])
    for name, command in COMMANDS.items():
        for line in command.examples:
            found.setdefault(words := tuple(shlex.split(line)), Typed(f"xft {name} --help", words))
    return list(found.values())


def _add(found: dict[tuple[str, ...], Typed], page: Path, lines: list[str]) -> None:
    for line in lines:
        if words := tuple(shlex.split(line, comments=True)):
            found.setdefault(words, Typed(page.relative_to(ROOT).as_posix(), words))


def _lines(body: str) -> list[str]:
    return body.replace("\\\n", " ").splitlines()
