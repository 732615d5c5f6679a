"""Token stores return what was written."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.token_stores import write_store
from hypothesis import given, settings
from hypothesis import strategies as st

from xft.data.store.sample_view import SampleView
from xft.data.store.token_store import StoreWriter, to_sample, to_tokens
from xft.types import IGNORE_INDEX, Sample

IDS = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), min_size=1, max_size=12)


def make(pairs: list[tuple[int, bool]]) -> Sample:
    ids = np.array([each for each, _ in pairs], dtype=np.int32)
    labels = np.array([each if trained else IGNORE_INDEX for each, trained in pairs], dtype=np.int32)
    return Sample(ids, labels)


@given(pairs=IDS)
def test_sample_comes_back_as_it_was(pairs: list[tuple[int, bool]]) -> None:
    sample = make(pairs)
    again = to_sample(to_tokens(sample))
    assert again.input_ids.tolist() == sample.input_ids.tolist()
    assert again.labels.tolist() == sample.labels.tolist()


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.lists(IDS, min_size=1, max_size=3), min_size=1, max_size=6))
def test_store_gives_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[list[tuple[int, bool]]]]
) -> None:
    samples = [[make(each) for each in row] for row in rows]
    store = write_store(tmp_path_factory.mktemp("store"), samples)
    flat = [each for row in samples for each in row]
    every = SampleView([(store, np.arange(len(rows)))])
    assert len(every) == len(flat)
    assert every.lengths.tolist() == [len(each) for each in flat]
    assert every.targets.tolist() == [each.num_targets for each in flat]
    for got, wanted in zip(every, flat, strict=True):
        assert got.input_ids.tolist() == wanted.input_ids.tolist()
        assert got.labels.tolist() == wanted.labels.tolist()


def test_label_of_an_answer_comes_back(tmp_path: Path) -> None:
    plain = make([(1, True), (2, True)])
    wanted = [Sample(plain.input_ids, plain.labels, desirable=each) for each in (True, False, None)]
    store = write_store(tmp_path / "store", [[each] for each in wanted])
    assert [store[each].desirable for each in range(3)] == [True, False, None]


def test_empty_store_can_be_read(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", [])
    assert len(store) == len(SampleView([(store, np.arange(0))])) == 0


def test_books_hold_any_text(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path)
    writer.close({"reason": "\ud800 ü"})
    assert json.loads((tmp_path / "stats.json").read_text())["reason"] == "\ud800 ü"
