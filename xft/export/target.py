"""The folder that an export is written to: checks before the model is loaded, and errors of the disk."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from xft.errors import CheckpointError, ConfigError
from xft.utils.console import format_bytes


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
    parent = _existing_parent(target)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(
            key="OUT", got=str(target), expected=f"a folder in a writable one, not in {parent}"
        )


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
    """Turn errors of the disk into one line.

    Raises:
        CheckpointError: a file cannot be written.
    """
    try:
        yield
    except Exception as error:
        # The tokenizers library raises a plain Exception with the text of its system error.
        if not isinstance(error, (OSError, SafetensorError)) and "os error" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or (str(error).strip().splitlines() or ["unknown"])[0]
        free = format_bytes(shutil.disk_usage(_existing_parent(target)).free)
        raise CheckpointError(
            key="OUT",
            got=f"{target}, which cannot be written ({reason})",
            expected="a disk with space for the model",
            fix=f"free some space ({free} are free), or choose a folder on another disk",
        ) from error


def _existing_parent(target: Path) -> Path:
    return next(folder for folder in target.parents if folder.exists())
