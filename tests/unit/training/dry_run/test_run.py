"""Dry run: its folder leaves nothing behind."""

import signal
from pathlib import Path

import pytest

from xft.errors import RunInterrupted
from xft.training.dry_run.run import temporary_run_dir


def test_temporary_run_dir_is_removed_after_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), temporary_run_dir(tmp_path / "runs" / "a", 0) as folder:
        fail_in(folder, tmp_path)
    assert list(tmp_path.iterdir()) == []


def fail_in(folder: Path, parent: Path) -> None:
    assert folder.parent == parent
    (folder / "checkpoints").mkdir()
    raise ZeroDivisionError


def test_temporary_run_dir_is_removed_after_sigterm(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RunInterrupted) as caught, temporary_run_dir(tmp_path / "run", 0):
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before
