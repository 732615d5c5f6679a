import sys
from pathlib import Path

import pytest

from xft.utils.command_line import command, short_path, typed_command
from xft.utils.invocation import invocation


def test_command_quotes_its_arguments() -> None:
    assert command("chat", "my runs/a") == f"{invocation('chat')} 'my runs/a'"
    assert command("runs") == invocation("runs")


@pytest.mark.parametrize(
    ("program", "typed"),
    [("/env/bin/xft", "xft"), ("/x/xft/__main__.py", "python -m xft"), ("tools/train.py", "train.py")],
)
def test_typed_command_has_no_folder_of_the_program(
    program: str, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "train", "my config.py"])
    assert typed_command() == f"{typed} train 'my config.py'"


def test_short_path_is_relative_below_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_path(tmp_path / "runs" / "a") == "runs/a"
    assert short_path(Path("/elsewhere")) == "/elsewhere"
