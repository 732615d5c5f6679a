"""``xft report`` and ``xft compare``."""

from pathlib import Path
from typing import Any

import pytest
from helpers.run_folders import write_run

from xft import cli, reporting


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The pages that would be written."""
    calls: list[tuple[Any, ...]] = []

    def write(source: Any, target: str | None) -> Path:
        calls.append((source, target))
        return Path("page.html")

    monkeypatch.setattr(reporting, "write_report", write)
    monkeypatch.setattr(reporting, "write_comparison", write)
    return calls


@pytest.mark.parametrize(
    ("argv", "call"),
    [
        (["report", "a"], ("a", None)),
        (["report", "a", "--out", "r.html"], ("a", "r.html")),
        (["compare", "a", "b"], (["a", "b"], "compare.html")),
        (["compare", "a", "b", "c", "--out", "r.html"], (["a", "b", "c"], "r.html")),
    ],
)
def test_page_commands_pass_their_options_and_print_the_path(
    pages: list[tuple[Any, ...]], argv: list[str], call: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 0
    assert pages == [call]
    assert capsys.readouterr().out == "wrote page.html: open it in a browser\n"


def test_runs_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", [2.0], plan={"steps": 1})
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(str(tmp_path / "a"))
