"""Commands that xft prints work where the user stands."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xft.utils import invocation as module
from xft.utils import paths
from xft.utils.invocation import invocation, localize

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkout with one script, no command ``xft``, and an interpreter that is not on the PATH."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "chat.py").touch()
    (tmp_path / "env").mkdir()
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "xft")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env" / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(module, "version_of", lambda name: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_invocation_prefers_the_command_on_the_path(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert invocation("chat") == "xft chat"


def test_invocation_takes_the_script_next_to_the_interpreter(checkout: Path) -> None:
    (checkout / "env" / "xft").touch()
    assert invocation("chat") == "env/xft chat"


def test_invocation_in_a_checkout_takes_the_script_of_tools(checkout: Path) -> None:
    assert invocation("chat") == "env/python tools/chat.py"
    assert invocation("report") == "env/python -m xft report"


def test_invocation_in_another_folder_has_absolute_paths(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert invocation("chat") == f"{checkout}/env/python {checkout}/tools/chat.py"
    assert invocation("report") == f"PYTHONPATH={checkout} {checkout}/env/python -m xft report"


def test_invocation_names_the_interpreter_that_is_on_the_path(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths_by_name = {"python": "/usr/bin/python", "python3": sys.executable}
    monkeypatch.setattr(shutil, "which", paths_by_name.get)
    assert invocation("chat") == "python3 tools/chat.py"


def test_localize_replaces_commands_only(checkout: Path) -> None:
    text = "xft needs it: use `xft chat RUN` or\n  xft report RUN\nof xft"
    expected = "xft needs it: use `env/python tools/chat.py RUN` or\n  env/python -m xft report RUN\nof xft"
    assert localize(text) == expected


@pytest.mark.parametrize("command", ["chat", "report"])
def test_invocation_of_this_checkout_runs_in_another_folder(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{invocation(command)} --help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"xft {command}" in done.stdout
