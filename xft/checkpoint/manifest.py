"""Write and check the manifest of a checkpoint: size and SHA-256 of every file, to detect corruption.

``manifest.json`` is written last. Its content is ``{"format": 1, "files": {NAME: {"size": BYTES,
"sha256": HEX}}}``. A folder whose files match its manifest is complete. A folder without one is unfinished.
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
from xft.utils.paths import fsync_path

MANIFEST = "manifest.json"
FORMAT = 1


def write_manifest(folder: Path, verified: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Fsync all files of a folder and write its manifest.

    Args:
        folder: the folder.
        verified: results of ``fsync_and_verify`` by file name; these files are not read again.

    Raises:
        OSError: a file cannot be written to disk.
    """
    entries: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            name = file.relative_to(folder).as_posix()
            entries[name] = verified[name] if name in verified else _fsync_and_digest(file)
    path = folder / MANIFEST
    path.write_text(json.dumps({"format": FORMAT, "files": entries}, indent=1) + "\n", encoding="utf-8")
    fsync_path(path)
    for inner in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        fsync_path(inner)


def fsync_and_verify(path: Path) -> dict[str, Any]:
    """Fsync a file, read it back from disk, and compare the checksums.

    Returns:
        Its manifest entry: ``size`` and ``sha256``.

    Raises:
        OSError: the file cannot be written to disk.
        CheckpointError: the content read back differs.
    """
    entry = _fsync_and_digest(path)
    if (digest := _sha256(path)) != entry["sha256"]:
        raise CheckpointError(
            f"{path.name}: the content read back from the disk differs from the content written",
            key=path.name,
            got=digest,
            expected=entry["sha256"],
        )
    return entry


def find_corruption(folder: Path, required: Iterable[str] = (), skip: Iterable[str] = ()) -> str | None:
    """Check a folder against its manifest.

    Files that the manifest does not list are ignored, because they are never loaded.

    Args:
        folder: the folder.
        required: names that the manifest must list.
        skip: files whose content is not read, because it has just been verified.

    Returns:
        The first problem, or ``None``.
    """
    if not folder.is_dir():
        return "the folder does not exist"
    try:
        entries = read_manifest(folder)
        missing = [name for name in required if name not in entries]
        if missing:
            return f"{MANIFEST} does not list {missing[0]}"
        return next(_mismatches(folder, entries, set(skip)), None)
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the entries of a manifest: ``size`` and ``sha256`` by file name.

    Raises:
        CheckpointError: the manifest is missing or invalid, or lists a file outside its folder.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{MANIFEST} is missing: the checkpoint is unfinished", key=MANIFEST)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise CheckpointError(key=f"{MANIFEST}: format", got=content["format"], expected=str(FORMAT))
        entries: dict[str, Any] = {
            str(name): {"size": int(entry["size"]), "sha256": str(entry["sha256"])}
            for name, entry in content["files"].items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{MANIFEST} is not a valid manifest", key=MANIFEST) from error
    for name in entries:
        if not _is_relative(name):
            raise CheckpointError(key=f"{MANIFEST}: files", got=name, expected="a path inside its folder")
    return entries


def _fsync_and_digest(path: Path) -> dict[str, Any]:
    """Fsync a file and return its manifest entry."""
    fsync_path(path)
    entry = {"size": path.stat().st_size, "sha256": _sha256(path)}
    _drop_page_cache(path)
    return entry


def _mismatches(folder: Path, entries: dict[str, Any], skip: Set[str]) -> Iterator[str]:
    root = folder.resolve()
    for name, entry in entries.items():
        path = folder / name
        if not os.path.lexists(path):
            yield f"{name} is missing"
        # A symlink may leave the folder; reading a pipe would block forever.
        elif not (stat.S_ISREG(path.lstat().st_mode) and path.resolve().parent.is_relative_to(root)):
            yield f"{name} is not a regular file in this folder"
        elif path.stat().st_size != entry["size"]:
            yield f"{name} has {path.stat().st_size} bytes, expected {entry['size']}"
        elif name not in skip and _sha256(path) != entry["sha256"]:
            yield f"{name} has a different checksum than {MANIFEST} lists"


def _is_relative(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _drop_page_cache(path: Path) -> None:
    """Evict a file from the page cache, so that the next read comes from the disk."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
