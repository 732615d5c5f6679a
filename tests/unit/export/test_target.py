"""The folder of an export is checked at the beginning; errors of the disk are one line."""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from xft.errors import CheckpointError, ConfigError
from xft.export import convert
from xft.export.target import check_shard_size, check_target, report_disk_errors


def test_new_and_empty_folders_are_accepted(tmp_path: Path) -> None:
    check_target(tmp_path)
    check_target(tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "used", "link", "dangling link", "below a file", "not UTF-8"])
def test_other_targets_are_refused_before_the_model_is_loaded(tmp_path: Path, kind: str) -> None:
    target = tmp_path / ("out" if kind != "not UTF-8" else os.fsdecode(b"caf\xe9/out"))
    if kind in ("file", "below a file"):
        target.write_text("x")
    elif kind == "used":
        target.mkdir()
        (target / "file").touch()
    elif "link" in kind:
        target.symlink_to(tmp_path / "elsewhere")
        if kind == "link":
            (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ConfigError) as error:
        convert("no such model", str(target / "inner" if kind == "below a file" else target))
    assert error.value.key == "OUT"


@pytest.mark.parametrize("size", ["5GB", "500mb", "1.5GB", "0.1KB"])
def test_sizes_with_a_unit_are_accepted(size: str) -> None:
    check_shard_size(size)


@pytest.mark.parametrize("size", ["0", "0GB", "0.0MB", "5", "-1GB", "GB", "", "5GiB", "five"])
def test_other_sizes_are_refused_before_the_model_is_loaded(tmp_path: Path, size: str) -> None:
    with pytest.raises(ConfigError) as error:
        convert("no such model", str(tmp_path / "out"), max_shard_size=size)
    assert (error.value.key, error.value.got) == ("--max-shard-size", size)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),
    ],
    ids=["system", "safetensors", "tokenizers"],
)
def test_full_disk_is_a_checkpoint_error(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(CheckpointError) as raised, report_disk_errors(tmp_path / "out"):
        raise error
    assert raised.value.exit_code == 5
    assert "No space left on device" in str(raised.value.got)


@pytest.mark.parametrize(
    ("file", "is_written"),
    [
        ("run/generations.jsonl", False),
        ("output/weights", False),
        ("out/weights", True),
        (".out-abc.tmp/weights", True),
        (".", True),
        (None, False),
    ],
)
def test_error_names_the_file_that_is_read(tmp_path: Path, file: str | None, is_written: bool) -> None:
    path = None if file is None else str(tmp_path / file)
    with pytest.raises(CheckpointError) as raised, report_disk_errors(tmp_path / "out"):
        raise OSError(errno.EACCES, "Permission denied", path)
    assert raised.value.key == ("OUT" if is_written or path is None else path)
    assert ("free some space" in raised.value.fix) == is_written


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(KeyError), report_disk_errors(tmp_path / "out"):
        raise KeyError("x")
