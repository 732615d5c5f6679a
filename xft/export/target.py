"""The folder that an export is written to: checks before the model is loaded, and errors of the disk."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from xft.errors import CheckpointError, ConfigError
from xft.utils.console import format_bytes
from xft.utils.paths import check_creatable, existing_parent

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors of a write that name no file."""


def check_target(target: Path) -> None:
    """Refuse a folder that cannot be written.

    Args:
        target: absolute path.

    Raises:
        ConfigError: the path is in use, is a link, or cannot be created.
    """
    is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if target.is_symlink() or not is_free:
        raise ConfigError(
            key="OUT", got=str(target), expected="a new or empty folder", fix="choose another folder"
        )
    check_creatable(target.parent, "OUT")


def check_shard_size(size: str) -> None:
    """Check the maximum size of a file of weights.

    Raises:
        ConfigError: the size is zero, or has no unit.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)[KMGT]B", size, re.IGNORECASE)
    if match is None or not float(match[1]):
        raise ConfigError(
            key="--max-shard-size", got=size, expected="more than 0, with a unit, such as 5GB or 500MB"
        )


@contextmanager
def report_disk_errors(target: Path) -> Iterator[None]:
    """Turn errors of the disk into one line. A file outside the export, such as one of the source, was read.

    Raises:
        CheckpointError: a file cannot be written or read.
    """
    try:
        yield
    except Exception as error:
        # The tokenizers library raises a plain Exception with the text of its system error.
        if not isinstance(error, (OSError, SafetensorError)) and "os error" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or (str(error).strip().splitlines() or ["unknown"])[0]
        file = error.filename if isinstance(error, OSError) else None
        if isinstance(file, str | bytes) and not _is_written(Path(os.fsdecode(file)).absolute(), target):
            path = os.fsdecode(file)
            raise CheckpointError(
                key=path, got=f"a file that cannot be read ({reason})", expected="a readable file"
            ) from error
        if file is None and isinstance(error, OSError) and error.errno not in _DISK_ERRORS:
            raise CheckpointError(
                f"OUT: the export to {target} failed ({reason})", key="OUT", got=reason
            ) from error
        free = format_bytes(shutil.disk_usage(existing_parent(target)).free)
        raise CheckpointError(
            key="OUT",
            got=f"{target}, which cannot be written ({reason})",
            expected="a disk with space for the model",
            fix=f"free some space ({free} are free), or choose a folder on another disk",
        ) from error


def _is_written(path: Path, target: Path) -> bool:
    """Whether an export writes to a path: the target, a folder above it, its temporary folder, or a file in these."""
    if target.is_relative_to(path):
        return True
    if not path.is_relative_to(target.parent):
        return False
    name = path.relative_to(target.parent).parts[0]
    return name == target.name or name.startswith(f".{target.name}-")
