"""Search for near duplicates."""

from pathlib import Path

import numpy as np
import pytest
from helpers.token_stores import write_store

from xft.data.duplicates import near_duplicates
from xft.types import Sample


def sample(ids: list[int]) -> Sample:
    array = np.array(ids, dtype=np.int32)
    return Sample(array, array.copy())


def jaccard(left: list[int], right: list[int]) -> float:
    """The share of common runs of five tokens, the plain way."""
    one, two = ({tuple(ids[i : i + 5]) for i in range(len(ids) - 4)} for ids in (left, right))
    return len(one & two) / len(one | two)


def test_near_duplicates_are_found_and_others_are_not(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 5000, 80).tolist() for _ in range(200)]
    # One token of eighty is another: five of 76 runs differ on each side.
    twin = [*texts[3][:40], 4999, *texts[3][41:]]
    half = [*texts[5][:40], *generator.integers(0, 5000, 40).tolist()]
    rows = [*texts, twin, half, texts[7]]
    store = write_store(tmp_path / "store", [[sample(each)] for each in rows])
    found = near_duplicates(store)
    assert [(earlier, later) for earlier, later, _ in found] == [(3, 200)]
    assert found[0][2] == pytest.approx(jaccard(texts[3], twin), abs=1e-6)
    assert 0.8 < found[0][2] < 1
    assert jaccard(texts[5], half) < 0.5


def test_common_frame_does_not_make_rows_near_duplicates(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    frame = generator.integers(0, 5000, 300).tolist()
    rows = [[*frame, *generator.integers(0, 5000, 20).tolist()] for _ in range(60)]
    assert jaccard(rows[0], rows[1]) > 0.8
    store = write_store(tmp_path / "store", [[sample(each)] for each in rows])
    assert near_duplicates(store) == []


def test_short_and_single_rows_have_no_near_duplicates(tmp_path: Path) -> None:
    store = write_store(tmp_path / "short", [[sample([1, 2])], [sample([3])], [sample([1, 2, 3, 4])]])
    assert near_duplicates(store) == []
    assert near_duplicates(write_store(tmp_path / "one", [[sample([1] * 9)]])) == []
