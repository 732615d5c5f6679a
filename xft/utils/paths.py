"""Locations of files: assets of the package, the user's cache, the shipped configs."""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from xft.errors import ConfigError, ModelError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
SCHEME = "xft://"
VAL_ROWS = "val_rows"
"""Value of ``eval_prompts`` for questions from the validation rows."""
METADATA_FILE = "xft_metadata.json"
"""File of a saved model that says how it was trained."""


def asset(name: str) -> Path:
    """Return the file that ``xft://NAME`` refers to.

    Raises:
        ConfigError: no such file is shipped with xft.
    """
    path = PACKAGE / "assets" / name
    if not path.is_file():
        known = [file.name for file in (PACKAGE / "assets").iterdir()]
        raise ConfigError(f"{SCHEME}{name} is not shipped with xft; {did_you_mean(name, known)}", got=name)
    return path


def similar_file(path: Path) -> str:
    """Return a question with the names in the same folder that are close to a missing one; empty without any."""
    try:
        names = os.listdir(path.expanduser().parent)
    except OSError:
        return ""
    question = did_you_mean(path.name, names)
    return question if question.startswith("did") else ""


def is_hub_name(path: str) -> bool:
    """Return whether a path has the form ``owner/name``, and is not one in a folder that exists."""
    is_path = path.startswith((".", "/", "~")) or path.count("/") != 1
    return not is_path and not Path(path).parent.is_dir()


def missing_model(path: str) -> ModelError:
    """Return the error of a ``model.path`` that is neither a folder nor a name of the hub."""
    return ModelError(
        f"model.path: no folder {path}; expected the folder of a model, a run or an adapter, "
        f"{SCHEME}smollm2-135m-instruct, or owner/name of the hub",
        key="model.path",
        got=path,
    )


def cache_dir() -> Path:
    """Return the user's cache folder: ``$XFT_CACHE``, else ``xft`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if path := os.environ.get("XFT_CACHE"):
        return Path(path).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "xft"


def configs() -> Path:
    """Return the folder of the shipped configs, in a checkout or in an installed package."""
    return _shipped("configs")


def docs() -> Path:
    """Return the folder of the documentation, in a checkout or in an installed package."""
    return _shipped("docs")


def _shipped(name: str) -> Path:
    checkout = PACKAGE.parent / name
    return checkout if checkout.is_dir() else PACKAGE / name


def bundled_model() -> Path:
    """Return the folder that the bundled model is unpacked into."""
    return cache_dir() / "models" / "smollm2-135m-instruct-q4_1"


def check_regular(path: Path, key: str) -> None:
    """Check that a file that the user names is a regular one: reading a pipe or a device may never end.

    Args:
        path: of the file; it need not exist.
        key: config key or option that names it.

    Raises:
        ConfigError: it is a pipe, a device or a folder.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(key=key, got=str(path), expected="a regular file")


def existing_parent(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


def check_creatable(folder: Path, key: str) -> None:
    """Check that a folder can be created or written, and that models can be saved in it.

    Args:
        folder: absolute path; it need not exist.
        key: config key or option that names it.

    Raises:
        ConfigError: it is below a file or a folder without access, or its name is not UTF-8.
    """
    parent = existing_parent(folder)
    if not parent.is_dir():
        raise ConfigError(key=key, got=str(folder), expected=f"a folder, but {parent} is a file")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(key=key, got=str(folder), expected=f"a folder, but {parent} is not writable")
    if "\ufffd" in os.fsencode(folder).decode("utf-8", "replace"):
        # The libraries tokenizers and safetensors take text, and a run would end when it saves the model.
        raise ConfigError(
            key=key, got=str(folder), expected="a path in UTF-8", fix="choose or rename the folder"
        )


def no_follow(path: str, flags: int) -> int:
    """Open a file for :func:`open` (``opener=no_follow``), and refuse a symbolic link.

    A run folder is untrusted. Writing to a link in it could change any file on the disk.

    Raises:
        ConfigError: the last part of the path is a link.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link_error(Path(path)) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, and refuse a symbolic link (see :func:`no_follow`)."""
    with open(path, "w", encoding="utf-8", opener=no_follow) as file:
        file.write(text)


def check_no_links(folder: Path, allowed: Iterable[Path] = ()) -> None:
    """Check that a folder has only regular files and folders, at any depth.

    Args:
        folder: the folder; it need not exist.
        allowed: links that are accepted, and folders of other libraries, which have links of their own.

    Raises:
        ConfigError: a file is a link, a pipe or a device.
    """
    accepted = set(allowed)
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) not in accepted]
        for path in (Path(parent, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or path in accepted):
                raise _link_error(path)


def _link_error(path: Path) -> ConfigError:
    got = f"a link to {os.readlink(path)}" if path.is_symlink() else "a pipe or a device"
    return ConfigError(
        f"{path}: got {got}; expected a regular file. Delete it: a run writes to this path",
        key=str(path),
        got=got,
        expected="a regular file",
        fix="delete it",
    )


def fsync_path(path: Path) -> None:
    """Fsync a file or a folder.

    Raises:
        OSError: it cannot be written to the disk.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
