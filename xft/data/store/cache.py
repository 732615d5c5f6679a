"""The cache of prepared data: stores by a key of everything that decides their content."""

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
from xft.registry import callable_name
from xft.types import Tokenizer
from xft.utils import console, paths
from xft.version import __version__


def cache_key(parts: Iterable[Any]) -> str:
    """Return the name of a store: a hash of ``parts`` and of the code of xft that prepares data."""
    hasher = hashlib.sha256()
    for part in (*_package_source_hash(), *parts):
        text = repr(part).encode("utf-8", "backslashreplace")
        hasher.update(f"{len(text)};".encode() + text)
    return hasher.hexdigest()[:32]


def get_or_build(root: Path, key: str, build: Callable[[Path], None]) -> TokenStore:
    """Open the store of a key; build it first if there is none.

    It is built in a temporary folder that is renamed atomically, so a crash leaves no partial store.
    Processes that need the same store wait for the first of them.

    Args:
        root: folder of all stores.
        key: see ``cache_key``.
        build: writes a store into the empty folder that it receives.

    Raises:
        DataError: the folder cannot be written.
    """
    final = root / key
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            if final.is_dir():
                try:
                    store = TokenStore(final)
                except CorruptStoreError as error:
                    console.info(f"the prepared data in {final} is corrupt ({error}); preparing it again")
                else:
                    if (changed := store.images.changed_file()) is None:
                        return store
                    console.info(f"{changed} was changed since the data was prepared; preparing it again")
                shutil.rmtree(final)
            _build(root, key, build)
    except OSError as error:
        raise DataError(
            f"the cache folder {root} cannot be used ({error.strerror or error}). Free some space, or set "
            "data.cache_dir or $XFT_CACHE to another folder",
            key="data.cache_dir",
            got=str(root),
        ) from error
    return TokenStore(final)


def _build(root: Path, key: str, build: Callable[[Path], None]) -> None:
    for draft in root.glob(".*.*"):
        # A draft of another process has another key and is less than a day old.
        if draft.name.startswith(f".{key}.") or draft.stat().st_mtime < time.time() - 86400:
            shutil.rmtree(draft, ignore_errors=True)
    draft = root / f".{key}.{os.getpid()}"
    draft.mkdir()
    try:
        build(draft)
        for path in draft.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        draft.rename(root / key)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def default_root() -> Path:
    """Return the default of ``data.cache_dir``."""
    return paths.cache_dir() / "data"


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """Return a hash of the vocabulary, merges, added tokens and special tokens of a tokenizer."""
    state = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(tokenizer)
    roles = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token]
    added = list(tokenizer("")["input_ids"])
    return hashlib.sha256(f"{state}{roles}{added}".encode()).hexdigest()


def callable_fingerprint(function: Callable[..., Any]) -> tuple[Any, ...]:
    """Return all that decides the result of a function: name, source files, defaults and bound values.

    The whole source file counts, because a function may call others in it, and so do the imported
    modules in its folder (≈ ``datasets`` fingerprints).
    """
    if isinstance(function, partial):
        args = [callable_fingerprint(value) if callable(value) else value for value in function.args]
        return (callable_fingerprint(function.func), args, sorted(function.keywords.items()))
    if inspect.ismethod(function):
        return callable_fingerprint(function.__func__)
    is_named = inspect.isclass(function) or inspect.isroutine(function)
    try:
        source = inspect.getsourcefile(inspect.unwrap(function) if is_named else type(function))
    except TypeError:  # a built-in function
        source = None
    bound: list[Any] = [vars(function)] if hasattr(function, "__dict__") else []
    if inspect.isfunction(function):
        bound += [function.__defaults__, [cell.cell_contents for cell in function.__closure__ or ()]]
    return (callable_name(function), _sibling_sources(source), bound)


def _sibling_sources(source: str | None) -> list[str]:
    """Hash a file and the imported modules in its folder or below."""
    if source is None or not Path(source).is_file():
        return []
    folder = Path(source).resolve().parent
    files = {Path(source).resolve()}
    if not folder.is_relative_to(paths.PACKAGE):  # the code of xft is in every key already
        loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        # Some libraries set __file__ to something that is no file.
        paths_loaded = [Path(name).resolve() for name in loaded if name and Path(name).is_absolute()]
        files |= {path for path in paths_loaded if path.is_file() and path.is_relative_to(folder)}
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files) if path.suffix == ".py"]


@cache
def _package_source_hash() -> tuple[str, ...]:
    """Return the versions and the hash of the code that prepares data: ``data`` and ``templates``."""
    import tokenizers

    hasher = hashlib.sha256()
    for subpackage in ("data", "templates"):
        for file in sorted((paths.PACKAGE / subpackage).rglob("*")):
            if file.suffix in (".py", ".jinja"):
                hasher.update(file.read_bytes())
    return (__version__, str(tokenizers.__version__), hasher.hexdigest())
