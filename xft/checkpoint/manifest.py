"""The manifest of a checkpoint: size and SHA-256 of every file, so that damage is recognised.

``manifest.json`` is written last. It reads ``{"format": 1, "files": {NAME: {"size": BYTES,
"sha256": HEX}}}``. A folder whose files match it is whole; one without it was not finished.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from xft.errors import CheckpointError

MANIFEST = "manifest.json"
FORMAT = 1


def seal(folder: Path, proven: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Put everything in a folder on the disk, and write its manifest.

    Args:
        folder: the folder.
        proven: what ``prove`` gave of files that are on the disk already, by name.

    Raises:
        OSError: the disk does not take it.
    """
    files: dict[str, Any] = {}
    for each in sorted(folder.rglob("*")):
        if each.is_file():
            name = each.relative_to(folder).as_posix()
            files[name] = proven[name] if name in proven else _settle(each)
    path = folder / MANIFEST
    path.write_text(json.dumps({"format": FORMAT, "files": files}, indent=1) + "\n", encoding="utf-8")
    flush(path)
    for each in [*(each for each in folder.rglob("*") if each.is_dir()), folder]:
        flush(each)


def prove(path: Path) -> dict[str, Any]:
    """Put a file on the disk, and see that the disk gives it back.

    Returns:
        Its size and checksum, for ``seal``.

    Raises:
        OSError: the disk does not take it.
        CheckpointError: the disk gives back something else.
    """
    found = _settle(path)
    if _digest(path) != found["sha256"]:
        raise CheckpointError(f"what the disk gives back of {path.name} is not what was written")
    return found


def damage(folder: Path, required: Iterable[str] = (), unread: Iterable[str] = ()) -> str | None:
    """What is wrong with a folder that has been sealed, or ``None``.

    Every file is read. Files that the manifest does not name are let pass: nothing reads them.

    Args:
        folder: the folder.
        required: names that the manifest must have.
        unread: files that are not read again, as they have just been proven.
    """
    if not folder.is_dir():
        return "it is not there"
    try:
        named = files_of(folder)
        missing = [each for each in required if each not in named]
        if missing:
            return f"{MANIFEST} does not name {missing[0]}"
        return next(_wrong(folder, named, set(unread)), None)
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"


def files_of(folder: Path) -> dict[str, Any]:
    """The files that a manifest names, each with ``size`` and ``sha256``.

    Raises:
        CheckpointError: there is no manifest, it is broken, or it names a file outside its folder.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"it has no {MANIFEST}, so it was not finished")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise CheckpointError(f"{MANIFEST} has format {found['format']!r}, expected {FORMAT}")
        files: dict[str, Any] = {
            str(name): {"size": int(each["size"]), "sha256": str(each["sha256"])}
            for name, each in found["files"].items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{MANIFEST} is broken") from error
    for name in files:
        if not _stays_inside(name):
            raise CheckpointError(f"{MANIFEST} names {name!r}, which is outside its folder")
    return files


def flush(path: Path) -> None:
    """Put a file or a folder on the disk.

    Raises:
        OSError: the disk does not take it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settle(path: Path) -> dict[str, Any]:
    """Put a file on the disk; its size and checksum."""
    flush(path)
    found = {"size": path.stat().st_size, "sha256": _digest(path)}
    _forget(path)
    return found


def _wrong(folder: Path, named: dict[str, Any], unread: Set[str]) -> Iterator[str]:
    inside = folder.resolve()
    for name, each in named.items():
        path = folder / name
        if not os.path.lexists(path):
            yield f"{name} is missing"
        # A link may lead out of the folder; a pipe would never end.
        elif not (stat.S_ISREG(path.lstat().st_mode) and path.resolve().parent.is_relative_to(inside)):
            yield f"{name} is no ordinary file in this folder"
        elif path.stat().st_size != each["size"]:
            yield f"{name} has {path.stat().st_size} bytes, expected {each['size']}"
        elif name not in unread and _digest(path) != each["sha256"]:
            yield f"{name} has another checksum than {MANIFEST} says"


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _forget(path: Path) -> None:
    """Take a file out of the system's cache, so that the next reader gets what the disk has."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
