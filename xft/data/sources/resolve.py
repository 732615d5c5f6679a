"""Find what ``path`` of a config names: files, or a data set of the hub."""

import glob
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xft.data.sources.decompress import CODECS
from xft.data.sources.file_types import READERS, file_type
from xft.data.sources.hub import revision
from xft.data.sources.location import source_error
from xft.data.sources.shipped_files import shipped_file
from xft.errors import ConfigError, DataError
from xft.utils import paths

HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+(:[\w.-]+)?$")

SPREADSHEETS = (".xlsx", ".xls", ".ods")
_KNOWN = f"{', '.join(READERS)}; text kinds also with {' or '.join(CODECS)} behind"
_EXPECTED = (
    f"a file ({_KNOWN}), a folder or a glob of such files, xft://NAME, or owner/name of a hub data set"
)
_COMPANION_FILES = re.compile(
    # What stands in folders of data and is none: hidden files, notes, locks, check sums, the marks
    # that a writer leaves, and what `datasets` notes about its own files.
    r"\..*|(readme|license|licence|notice|changelog)(\.(txt|rst))?|.*\.(md|lock|crc|sha256|md5)"
    r"|_success|_(common_)?metadata|(state|dataset_infos?|dataset_dict)\.json",
    re.IGNORECASE,
)
_SPLITS = "dataset_dict.json"
"""The note of ``DatasetDict.save_to_disk``: the folders beside it are splits."""


@dataclass(frozen=True)
class DataSource:
    """What a path names.

    Attributes:
        name: the path as the config says it.
        files: sorted; empty for a data set of the hub.
        hub: ``owner/name`` or ``owner/name:config``; ``None`` for files.
        rows: how many rows to take (``#500``); ``None`` takes all.
    """

    name: str
    files: tuple[Path, ...]
    hub: str | None = None
    rows: int | None = None

    @property
    def size(self) -> int | None:
        """Bytes of all files on the disk; ``None`` for a data set of the hub.

        Raises:
            DataError: a file is gone.
        """
        if self.hub is not None:
            return None
        try:
            return sum(file.stat().st_size for file in self.files)
        except OSError as error:
            raise unreadable(error) from error


def unreadable(error: OSError) -> DataError:
    """The error of a file that the system does not give."""
    return source_error(error.filename, f"cannot be read ({error.strerror})")


def resolve_source(path: str) -> DataSource:
    """Find what ``path`` names. Quick: nothing is read, and the network is not asked.

    Args:
        path: a file, a folder (all data files in it and below), a glob, ``xft://NAME`` for a file
            shipped with xft, or ``owner/name`` of a hub data set, with ``:config`` behind it where
            it has several; ``#500`` behind any of these takes 500 rows.

    Raises:
        ConfigError: nothing is there, or not only data is.
    """
    match = _find(path)
    if match is not None:
        return DataSource(path, *match)
    bare, mark, number = path.rpartition("#")
    if mark:
        if not (number.isascii() and number.isdigit() and int(number[:18])):
            raise _path_error(
                path,
                f"does not exist, and {mark + number!r} is no number of rows",
                "more than 0 rows, such as #500",
            )
        match = _find(bare)
        if match is not None:
            return DataSource(path, *match, rows=int(number[:18]))
    raise _path_error(bare or path, "does not exist", fix=paths.similar_file(Path(bare or path)))


def _path_error(path: object, problem: str, expected: str = _EXPECTED, fix: str = "") -> ConfigError:
    """Create the error of a value of ``data.path``."""
    message = f"data.path: {path} {problem}; expected {expected}" + (f"; {fix}" if fix else "")
    return ConfigError(message, key="data.path", got=str(path), expected=expected, fix=fix)


def _find(path: str) -> tuple[tuple[Path, ...], str | None] | None:
    """Files and hub name; ``None`` if nothing is there."""
    if path.startswith(paths.SCHEME):
        name = path.removeprefix(paths.SCHEME)
        return None if "#" in name else ((_checked(shipped_file(name)),), None)
    place = Path(path).expanduser()
    if os.path.isfile(place):
        return (_checked(place),), None
    if os.path.isdir(place):
        return _all(path, sorted(_walk(place))), None
    if os.path.lexists(place):
        raise _path_error(path, "is neither a file nor a folder")
    if glob.has_magic(path):
        matches = [Path(name) for name in sorted(glob.glob(str(place), recursive=True))]
        files = [match for match in matches if not os.path.isdir(match)]
        return (_all(path, files), None) if files else None
    if HUB_NAME.match(path) and file_type(place) is None and not os.path.isdir(place.parent):
        return (), path
    return None


def _checked(file: Path) -> Path:
    """Return a file of a known type. Devices and pipes are errors: reading them may never end."""
    if os.path.lexists(file) and not os.path.isfile(file):
        raise _path_error(
            file, "is a pipe, a device or a broken link", "regular files", "move it out of the folder"
        )
    if file_type(file) is not None:
        return file
    if file.suffix.lower() in CODECS:
        inner = file.with_suffix("").suffix
        what = f"ends in {inner + file.suffix!r}"
        if inner.lower() in READERS:
            what += f", and {inner} is compressed inside: unpack it"
    else:
        what = f"ends in {file.suffix!r}"
    fix = "save the sheet as CSV in UTF-8" if file.suffix.lower() in SPREADSHEETS else ""
    raise _path_error(file, what, f"one of {_KNOWN}", fix)


def _all(path: str, files: list[Path]) -> tuple[Path, ...]:
    """Return the data files. A file that is neither data nor a known companion file is an error."""
    splits = sorted(file.parent for file in files if file.name == _SPLITS)
    if splits:
        fix = f"name it, such as {splits[0] / 'train'}"
        raise _path_error(splits[0], "holds a dataset with several splits", "the folder of one split", fix)
    data = [file for file in files if not _COMPANION_FILES.fullmatch(file.name)]
    if not data:
        raise _path_error(path, "holds no data", f"files ({_KNOWN})")
    return tuple(_checked(file) for file in data)


def _walk(folder: Path) -> Iterator[Path]:
    """Every file in a folder and below, but for hidden folders. Links are followed, once."""

    def refuse(error: OSError) -> None:
        raise _path_error(
            error.filename, f"cannot be read ({error.strerror})", "a readable folder"
        ) from error

    seen: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in files)


def fingerprint(source: DataSource, split: str) -> str:
    """A digest that changes when the data does: of files, their names and contents; of a data set
    of the hub, its name, split and commit.

    The fingerprint depends on the relative paths of the files only.

    Args:
        location: what is read.
        split: of a hub data set; files have none.

    Returns:
        64 hexadecimal digits of SHA-256.

    Raises:
        DataError: a file cannot be read, or the hub cannot be reached.
    """
    digest = hashlib.sha256()
    digest.update(f"rows={source.rows};".encode())
    if source.hub is not None:
        digest.update("\0".join([source.hub, split, revision(source.hub)]).encode())
        return digest.hexdigest()
    base = os.path.commonpath([file.parent.absolute() for file in source.files])
    for file in source.files:
        name = os.fsencode(os.path.relpath(file.absolute(), base))
        try:
            with file.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").digest()
        except OSError as error:
            raise unreadable(error) from error
        digest.update(len(name).to_bytes(8, "little") + name + content)
    return digest.hexdigest()
