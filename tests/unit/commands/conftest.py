"""Fixtures of the tests of commands."""

import sys
from pathlib import Path

import pytest

from xft.utils import console


@pytest.fixture(autouse=True)
def _restored_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a command changes: the search path, the handler of the terminal, the levels of libraries."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(console.LOGGER, "handlers", list(console.LOGGER.handlers))
    monkeypatch.setattr(console.LOGGER, "propagate", console.LOGGER.propagate)
    monkeypatch.setattr(console.LOGGER, "level", console.LOGGER.level)
    monkeypatch.setattr(console, "silence_libraries", lambda: None)


@pytest.fixture
def empty_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty ``c.py`` in the current folder."""
    (tmp_path / "c.py").touch()
    monkeypatch.chdir(tmp_path)
