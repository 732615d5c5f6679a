"""The cache of prepared data: stores by a key of everything that decides what is in them."""

import hashlib
import inspect
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from xft.data.store.token_store import CorruptStoreError, TokenStore
from xft.errors import DataError
from xft.types import Tokenizer
from xft.utils import console, paths
from xft.version import __version__


def cache_key(parts: Iterable[Any]) -> str:
    """A name for a store, from all that decides what is in it, and from xft's own code."""
    found = hashlib.sha256()
    for each in (*_package_source_hash(), *parts):
        text = repr(each).encode("utf-8", "backslashreplace")
        found.update(f"{len(text)};".encode() + text)
    return found.hexdigest()[:32]


def get_or_build(root: Path, key: str, make: Callable[[Path], None]) -> TokenStore:
    """Open the store of a key; make it first where there is none.

    It is made in a folder of its own that is renamed when it is whole, so a crash leaves no half
    store behind, and processes that want the same one wait for the first of them.

    Args:
        root: the folder of all stores.
        key: see ``cache_key``.
        make: writes a store into the empty folder that it is given.

    Raises:
        DataError: the folder cannot be written.
    """
    final = root / key
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            if final.is_dir():
                try:
                    return TokenStore(final)
                except CorruptStoreError as error:
                    console.info(f"the prepared data in {final} is damaged ({error}): it is prepared anew")
                    shutil.rmtree(final)
            _make(root, key, make)
    except OSError as error:
        raise DataError(
            f"the cache folder {root} cannot be used ({error.strerror or error}); "
            "free some space, or set data.cache_dir or $XFT_CACHE to another folder"
        ) from error
    return TokenStore(final)


def _make(root: Path, key: str, make: Callable[[Path], None]) -> None:
    for draft in root.glob(".*.*"):
        # What another process is at work on has another key, and is not a day old.
        if draft.name.startswith(f".{key}.") or draft.stat().st_mtime < time.time() - 86400:
            shutil.rmtree(draft, ignore_errors=True)
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
    """Where stores are kept unless ``data.cache_dir`` says otherwise."""
    return paths.cache_dir() / "data"


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """A text that changes with the tokenizer's vocabulary, merges, added tokens, and with which of
    them begin and end a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = backend.to_str() if backend is not None else repr(tokenizer)
    roles = [getattr(tokenizer, f"{each}_token", None) for each in ("bos", "eos", "unk", "pad")]
    begins = list(tokenizer("")["input_ids"])
    return hashlib.sha256(f"{whole}{roles}{begins}".encode()).hexdigest()


def callable_fingerprint(function: Callable[..., Any]) -> tuple[Any, ...]:
    """What decides the outcome of a map function: its name, its files, and what it is bound to.

    Its whole file counts, since a function may call others in it, and so do the modules beside it
    that are imported by now.
    """
    if isinstance(function, partial):
        return (callable_fingerprint(function.func), function.args, sorted(function.keywords.items()))
    named = inspect.unwrap(function) if hasattr(function, "__qualname__") else type(function)
    try:
        source = inspect.getsourcefile(named)
    except TypeError:  # it is built in
        source = None
    cells = [each.cell_contents for each in getattr(function, "__closure__", None) or ()]
    name = getattr(function, "__qualname__", type(function).__qualname__)
    held = getattr(function, "__dict__", None)
    defaults = getattr(function, "__defaults__", None)
    return (name, _sibling_sources(source), defaults, held, cells)


def _sibling_sources(source: str | None) -> list[str]:
    """Digests of a file and of the imported modules in its folder, or below it."""
    if source is None or not Path(source).is_file():
        return []
    folder = Path(source).resolve().parent
    files = {Path(source).resolve()}
    if not folder.is_relative_to(paths.PACKAGE):  # xft's own code is in every key as it is
        loaded = [getattr(each, "__file__", None) for each in list(sys.modules.values())]
        # Some libraries give their modules names that are no files.
        own = [Path(name).resolve() for name in loaded if name and Path(name).is_absolute()]
        files |= {each for each in own if each.is_file() and each.is_relative_to(folder)}
    return [hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(files) if each.suffix == ".py"]


@cache
def _package_source_hash() -> tuple[str, ...]:
    """The code that prepares: of this package, and of the library that tokenises."""
    import tokenizers

    found = hashlib.sha256()
    for room in ("data", "templates"):
        for each in sorted((paths.PACKAGE / room).rglob("*.py")):
            found.update(each.read_bytes())
    return (__version__, str(tokenizers.__version__), found.hexdigest())
