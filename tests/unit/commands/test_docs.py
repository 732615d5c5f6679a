"""``xft docs``: pages, and names of pages that do not exist."""

import pytest

from xft import cli
from xft.commands.docs import pages


def test_pages_are_listed_with_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(pages()) > 20
    assert ["data", "Data"] in [line.split(maxsplit=1) for line in lines]


def test_page_is_printed_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docs", "data"]) == 0
    assert capsys.readouterr().out.strip() == pages()["data"].read_text(encoding="utf-8").strip()


def test_unknown_page_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docs", "dtaa"]) == 2
    assert "data" in capsys.readouterr().err
