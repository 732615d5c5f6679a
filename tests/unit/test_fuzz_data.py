"""A sample of `make fuzz`: damaged data files of every kind, and the fuzzer itself."""

import random
import sys
from pathlib import Path

import pytest

from benchmarks.fuzz_data import GOOD, NUM_ROWS, damage, fuzz, read


@pytest.mark.parametrize("kind", GOOD)
def test_good_file_is_read_whole(tmp_path: Path, kind: str) -> None:
    (file := tmp_path / f"good.{kind}").write_bytes(GOOD[kind]())
    assert read(file) == NUM_ROWS


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    assert list(fuzz(list(GOOD), 2, 1, tmp_path)) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [("raise SystemExit('out of range')", "out of range"), ("import os; os.abort()", "ended by SIGABRT")],
)
def test_fault_is_reported_and_the_file_is_kept(tmp_path: Path, code: str, reason: str) -> None:
    faults = list(fuzz(["jsonl"], 2, 0, tmp_path, [sys.executable, "-c", code]))
    assert faults == [f"{number}.jsonl: {reason}" for number in range(2)]
    assert (tmp_path / "0.jsonl").is_file()


def test_damage_depends_on_the_seed_only() -> None:
    data = GOOD["jsonl"]()
    first = damage(data, random.Random("a"))
    assert damage(data, random.Random("a")) == first != damage(data, random.Random("b"))
