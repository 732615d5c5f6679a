"""The cache of prepared data: stores by a key of everything that decides what is in them."""

import hashlib
import inspect
import os
import shutil
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from xft import paths
from xft.data.store import Store
from xft.errors import DataError
from xft.types import Tokenizer
from xft.version import __version__


def key_of(parts: Iterable[Any]) -> str:
    """A name for a store, from all that decides what is in it, and from xft's own code."""
    found = hashlib.sha256()
    for each in (*_code(), *parts):
        text = repr(each).encode("utf-8", "backslashreplace")
        found.update(f"{len(text)};".encode() + text)
    return found.hexdigest()[:32]


def open_or_make(root: Path, key: str, make: Callable[[Path], None]) -> Store:
    """Open the store of a key; make it first where there is none.

    It is made in a folder of its own that is renamed when it is whole, so a crash leaves no half
    store behind, and processes that want the same one wait for the first of them.

    Args:
        root: the folder of all stores.
        key: see ``key_of``.
        make: writes a store into the empty folder that it is given.

    Raises:
        DataError: the folder cannot be written.
    """
    final = root / key
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            if not final.is_dir():
                _make(root, key, make)
    except OSError as error:
        raise DataError(
            f"the cache folder {root} cannot be used ({error.strerror or error}); "
            "free some space, or set data.cache or $XFT_CACHE to another folder"
        ) from error
    return Store(final)


def _make(root: Path, key: str, make: Callable[[Path], None]) -> None:
    for left_by_a_crash in root.glob(f".{key}.*"):
        shutil.rmtree(left_by_a_crash)
    draft = root / f".{key}.{os.getpid()}"
    draft.mkdir()
    try:
        make(draft)
        for each in draft.iterdir():
            with each.open("rb") as opened:
                os.fsync(opened.fileno())
        draft.rename(root / key)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def default_root() -> Path:
    """Where stores are kept unless ``data.cache`` says otherwise."""
    return paths.cache() / "data"


def of_tokenizer(tokenizer: Tokenizer) -> str:
    """A text that changes with the tokenizer's vocabulary, merges and added tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = backend.to_str() if backend is not None else repr(tokenizer)
    return hashlib.sha256(whole.encode()).hexdigest()


def of_callable(function: Callable[..., Any]) -> tuple[Any, ...]:
    """What decides the outcome of a map function: its name, its file, and what it is bound to.

    The whole file counts, since a function may call others in it.
    """
    if isinstance(function, partial):
        return (of_callable(function.func), function.args, sorted(function.keywords.items()))
    source = inspect.getsourcefile(inspect.unwrap(function)) if callable(function) else None
    text = Path(source).read_bytes() if source is not None and Path(source).is_file() else b""
    cells = [each.cell_contents for each in getattr(function, "__closure__", None) or ()]
    name = getattr(function, "__qualname__", repr(function))
    held = getattr(function, "__dict__", None)
    defaults = getattr(function, "__defaults__", None)
    return (name, hashlib.sha256(text).hexdigest(), defaults, held, cells)


@cache
def _code() -> tuple[str, ...]:
    """The code that prepares: of this package, and of the library that tokenises."""
    import tokenizers

    found = hashlib.sha256()
    for room in ("data", "templates"):
        for each in sorted((paths.PACKAGE / room).rglob("*.py")):
            found.update(each.read_bytes())
    return (__version__, str(tokenizers.__version__), found.hexdigest())
