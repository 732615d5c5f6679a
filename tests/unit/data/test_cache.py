"""Cache of token stores, and its keys."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.forked import fork_code
from helpers.token_stores import write_store

from xft.data.store.cache import cache_key, callable_fingerprint, get_or_build, tokenizer_fingerprint
from xft.data.store.token_store import (
    CorruptStoreError,
    TokenStore,
)
from xft.errors import DataError
from xft.types import IGNORE_INDEX, Message, Row, Sample


def make(pairs: list[tuple[int, bool]]) -> Sample:
    ids = np.array([each for each, _ in pairs], dtype=np.int32)
    labels = np.array([each if trained else IGNORE_INDEX for each, trained in pairs], dtype=np.int32)
    return Sample(ids, labels)


def test_store_is_made_once(tmp_path: Path) -> None:
    made = []

    def make_it(folder: Path) -> None:
        made.append(folder)
        write_store(folder, [])

    first = get_or_build(tmp_path, "key", make_it)
    assert get_or_build(tmp_path, "key", make_it).folder == first.folder
    assert len(made) == 1


def test_get_or_build_after_a_crash_leaves_no_partial_store(tmp_path: Path) -> None:
    def crash(folder: Path) -> None:
        (folder / "rows.npy").write_bytes(b"half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        get_or_build(tmp_path, "key", crash)
    assert [each for each in tmp_path.iterdir() if each.is_dir()] == []
    assert len(get_or_build(tmp_path, "key", lambda folder: write_store(folder, []) and None)) == 0


KILLED = """
import sys, time
from pathlib import Path
from xft.data.store.cache import get_or_build

def make(folder):
    (folder / "rows.npy").write_bytes(b"half")
    print("half", flush=True)
    time.sleep(600)

get_or_build(Path(sys.argv[1]), "key", make)
"""


def test_killed_process_leaves_no_half_store_and_no_lock(tmp_path: Path) -> None:
    process = fork_code(tmp_path, KILLED, str(tmp_path))
    while process.stdout != "half\n":
        assert process.poll() is None, process.stderr
    process.kill()
    process.wait(60)
    assert not (tmp_path / "key").exists()
    get_or_build(tmp_path, "key", lambda folder: write_store(folder, []) and None)
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == ["key"], "the half one is gone"


TWO = """
import os, sys, time
from pathlib import Path
from xft.data.store.cache import get_or_build
from xft.data.store.token_store import StoreWriter

def make(folder):
    Path(sys.argv[1], f"made-{os.getpid()}").touch()
    time.sleep(1)
    StoreWriter(folder).close({})

get_or_build(Path(sys.argv[1]) / "cache", "key", make)
"""


def test_get_or_build_in_two_processes_builds_once(tmp_path: Path) -> None:
    both = [fork_code(tmp_path, TWO, str(tmp_path)) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(list(tmp_path.glob("made-*"))) == 1


def test_get_or_build_unwritable_cache_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError) as error:
        get_or_build(tmp_path / "file" / "cache", "key", lambda folder: None)
    assert str(tmp_path / "file" / "cache") in str(error.value)
    assert "XFT_CACHE" in str(error.value)


FINGERPRINT = """
import importlib, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from xft.data.store.cache import callable_fingerprint
print(callable_fingerprint(importlib.import_module(sys.argv[2]).map))
"""


def fingerprint_of_map(folder: Path, module: str) -> str:
    """The fingerprint of the function ``map`` of a module, in a process that has not imported it."""
    process = fork_code(folder, FINGERPRINT, str(folder), module)
    output, error = process.communicate(60)
    assert process.returncode == 0, error
    return output


def mine(row: Row, column: str = "a") -> list[Message]:
    return [Message("user", row[column])]


def test_key_of_a_format_follows_its_file_its_name_and_what_it_is_bound_to(tmp_path: Path) -> None:
    def bound(value: str) -> Any:
        return lambda row: value

    keys = [
        callable_fingerprint(mine),
        callable_fingerprint(partial(mine, column="b")),
        callable_fingerprint(partial(mine, column="c")),
        callable_fingerprint(write_store),
        callable_fingerprint(bound("x")),
        callable_fingerprint(bound("y")),
    ]
    assert len({cache_key([each]) for each in keys}) == len(keys)
    assert cache_key([callable_fingerprint(mine)]) == cache_key([callable_fingerprint(mine)])
    module = tmp_path / "formats_of_mine.py"
    fingerprints = []
    for body in ("row['a']", "row['b']"):
        module.write_text(f"def helper(row): return {body}\ndef map(row): return helper(row)\n")
        fingerprints.append(fingerprint_of_map(tmp_path, "formats_of_mine"))
    assert fingerprints[0] != fingerprints[1], "the helper that the function calls has changed"


def test_key_of_a_tokenizer_follows_its_tokens(make_byte_tokenizer: Any) -> None:
    one, same, other = (
        make_byte_tokenizer(),
        make_byte_tokenizer(),
        make_byte_tokenizer(specials=("<|x|>",)),
    )
    assert tokenizer_fingerprint(one) == tokenizer_fingerprint(same) != tokenizer_fingerprint(other)


@pytest.mark.parametrize("name", ["rows.npy", "samples.npy", "tokens.bin", "too_long.npy", "stats.json"])
@pytest.mark.parametrize("damage", ["missing", "half"])
def test_damaged_store_is_seen_and_made_again(tmp_path: Path, name: str, damage: str) -> None:
    samples = [[make([(each, True), (each + 1, True)])] for each in range(50)]
    store = get_or_build(tmp_path, "key", lambda folder: write_store(folder, samples) and None)
    file = store.folder / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CorruptStoreError):
        TokenStore(store.folder)
    again = get_or_build(tmp_path, "key", lambda folder: write_store(folder, samples) and None)
    assert len(again) == 50


def test_key_of_a_tokenizer_follows_its_end_of_text(make_byte_tokenizer: Any) -> None:
    one, other = make_byte_tokenizer(), make_byte_tokenizer()
    other.eos_token = "<|im_end|>"
    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(other)


def test_key_of_a_format_follows_the_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from beside import helper\ndef map(row): return helper(row)\n")
    fingerprints = set()
    for body in ("1", "2"):
        (tmp_path / "beside.py").write_text(f"def helper(row): return {body}\n")
        fingerprints.add(fingerprint_of_map(tmp_path, "mine"))
    assert len(fingerprints) == 2


def test_object_that_can_be_called_and_built_in_functions_have_keys() -> None:
    class Mine:
        def __init__(self, column: str) -> None:
            self.column = column

        def __call__(self, row: Row) -> str:
            return str(row[self.column])

    keys = [cache_key([callable_fingerprint(each)]) for each in (Mine("a"), Mine("b"), dict)]
    assert len(set(keys)) == 3
