"""Tensors are read back from any number of shards, fully or in part."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from xft.distributed.sharded import ShardedTensorReader, ShardLocation, materialize, rows_of_rank


@pytest.mark.parametrize("cuts", [(0, 12), (0, 5, 12), (0, 1, 1, 7, 12)])
def test_reader_any_range_matches_full_tensor(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    """A rank may hold none of a tensor."""
    full = torch.arange(12.0)
    shards = []
    for rank, (start, stop) in enumerate(pairwise(cuts)):
        file = tmp_path / str(rank)
        save_file({"m": full[start:stop].clone()}, file)
        shards.append(ShardLocation(file, start, stop - start))
    reader = ShardedTensorReader("m", [3, 4], shards[::-1])
    assert reader.ndim == 2
    assert torch.equal(reader.read(), full.reshape(3, 4))
    assert torch.equal(materialize(reader), full.reshape(3, 4))
    for start in range(12):
        for stop in range(start, 13):
            assert torch.equal(reader.read_range(start, stop), full[start:stop])


@pytest.mark.parametrize("spans", [[(0, 5)], [(0, 5), (6, 6)], [(0, 7), (5, 7)], []])
def test_reader_gap_or_overlap_raises(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="do not cover the tensor exactly once"):
        ShardedTensorReader("m", [12], [ShardLocation(Path("file"), *span) for span in spans])


def test_materialize_other_value_is_unchanged() -> None:
    value = torch.zeros(2)
    assert materialize(value) is value


@pytest.mark.parametrize(("rows", "world_size"), [(8, 2), (7, 2), (1, 3), (5, 4), (0, 2)])
def test_rows_of_rank_are_those_of_chunk(rows: int, world_size: int) -> None:
    chunks = torch.arange(rows).chunk(world_size)
    for rank in range(world_size):
        start, stop = rows_of_rank(rows, rank, world_size)
        expected = chunks[rank].tolist() if rank < len(chunks) else []
        assert list(range(start, stop)) == expected
