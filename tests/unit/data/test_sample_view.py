"""Views of token stores: order, origins and fingerprint."""

from pathlib import Path

import numpy as np
import pytest
from helpers.token_stores import write_store

from xft.data.store.sample_view import SampleView
from xft.types import Sample


def test_samples_of_chosen_rows_of_several_stores_stand_in_the_order_asked_for(tmp_path: Path) -> None:
    def numbered(*numbers: int) -> list[Sample]:
        return [Sample(np.full(2, number, np.int32), np.full(2, number, np.int32)) for number in numbers]

    one = write_store(tmp_path / "one", [numbered(1), numbered(2, 3), numbered(4)])
    two = write_store(tmp_path / "two", [numbered(5), numbered(6, 7)])
    samples = SampleView([(one, np.array([2, 1])), (two, np.array([1])), (one, np.array([0, 0]))])
    firsts = [int(each.input_ids[0]) for each in samples]
    assert firsts == [4, 2, 3, 6, 7, 1, 1]
    assert [int(each.input_ids[0]) for each in samples[1:4]] == [2, 3, 6]
    assert int(samples[-1].input_ids[0]) == 1
    with pytest.raises(IndexError):
        samples[7]
    assert samples.origin(0) == "file1.jsonl:3"
    assert [samples.origin(each) for each in (1, 2)] == ["file0.jsonl:2"] * 2
    assert samples.origin_of_row(2) == "file0.jsonl:2"
    assert samples.fingerprint() != SampleView([(one, np.array([1, 2]))]).fingerprint()
