"""What README and docs say can be typed, and their links lead somewhere."""

import re
from pathlib import Path

import pytest
from helpers.documented import PAGES, ROOT, Typed, blocks, commands

from xft.cli import build_parser

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading, as MkDocs and GitHub make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            text = target.read_text(encoding="utf-8")
            assert anchor in {slug(each) for each in _HEADING.findall(text)}, f"{page.name}: {link}"


@pytest.mark.parametrize("typed", commands(), ids=str)
def test_commands_are_known_and_take_these_arguments(typed: Typed) -> None:
    arguments = typed.arguments
    if arguments is not None:
        build_parser().parse_args(arguments)  # an unknown one ends in SystemExit
    elif typed.words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert typed.words[1] in targets
    elif typed.words[0] == "python":
        assert (ROOT / typed.words[1]).is_file()
    for word in typed.words:
        if word.startswith(("configs/", "requirements/")):
            assert (ROOT / word).is_file(), word


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_python_on_a_page_is_python(page: Path) -> None:
    for body in blocks(page, "python"):
        compile(body, page.name, "exec")
