"""Temporary folders are removed: by their process, or by the next one."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xft.utils.temporary_folder import temporary_folder

KILLED = """\
import os, signal, sys
from pathlib import Path
from xft.utils.temporary_folder import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "weights").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_folder_is_renamed_to_its_target(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "out") as folder:
        assert folder.parent == tmp_path
        (folder / "file").write_text("x")
        folder.rename(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folder_is_removed_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), temporary_folder(tmp_path / "out"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


def test_folder_of_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    for name in ("out", "other"):
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
    (tmp_path / ".out-notes").mkdir()
    stale = {path.name for path in tmp_path.iterdir()}
    assert len(stale) == 3
    with temporary_folder(tmp_path / "out") as folder:
        remaining = {path.name for path in tmp_path.iterdir()} - {folder.name}
    assert ".out-notes" in remaining
    assert len(remaining) == 2
    assert not any(name.startswith(".out-") and name.endswith(".tmp") for name in remaining)


def test_folder_in_use_is_kept(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "out") as one, temporary_folder(tmp_path / "out") as two:
        assert one != two
        assert one.is_dir()
    assert os.listdir(tmp_path) == []


def test_folder_on_a_file_system_without_locks_of_folders_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS locks files that are open for writing only."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", flock)
    with temporary_folder(tmp_path / "out") as one, temporary_folder(tmp_path / "out") as two:
        assert one.is_dir()
        assert two.is_dir()
    assert os.listdir(tmp_path) == []
