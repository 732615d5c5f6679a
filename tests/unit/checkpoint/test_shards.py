"""Each rank writes and verifies its shard; rank 0 collects the shards of all ranks."""

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from xft.checkpoint import manifest
from xft.checkpoint.shards import (
    CheckpointShard,
    make_shard,
    open_shards,
    remove_stale_shards,
    shard_filename,
)
from xft.checkpoint.state_tree import flatten_state
from xft.distributed.sharded import TensorShard
from xft.errors import CheckpointError


def shard(rank: int, minutes: float = 1.0, name: str = "step_4.7") -> CheckpointShard:
    return CheckpointShard(rank, 3, name, {"m": torch.full((rank + 1,), float(rank))}, minutes)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "step_4"
    folder.mkdir()
    return folder


def test_collect_waits_for_all_ranks_and_moves_their_files(tmp_path: Path, into: Path) -> None:
    shard(0).write(tmp_path)
    late = threading.Timer(0.3, lambda: [shard(rank).write(tmp_path) for rank in (2, 1)])
    late.start()
    verified = shard(0).collect(tmp_path, into)
    late.join()
    assert (
        sorted(verified)
        == sorted(file.name for file in into.iterdir())
        == [shard_filename(r, 3) for r in range(3)]
    )
    for rank in range(3):
        assert load_file(into / shard_filename(rank, 3))["m"].tolist() == [float(rank)] * (rank + 1)
    shard(0).remove(tmp_path)
    assert not shard(0).folder(tmp_path).exists()
    manifest.write_manifest(into, verified)
    assert manifest.find_corruption(into) is None
    (into / shard_filename(1, 3)).write_bytes(b"x" * (into / shard_filename(1, 3)).stat().st_size)
    assert "checksum" in str(manifest.find_corruption(into))


def test_collect_after_a_failed_write_names_the_rank(tmp_path: Path, into: Path) -> None:
    shard(0).write(tmp_path)
    (shard(0).folder(tmp_path) / shard_filename(1, 3)).mkdir()  # nothing can be written under that name
    with pytest.raises(SafetensorError):
        shard(1).write(tmp_path)
    with pytest.raises(CheckpointError) as error:
        shard(0).collect(tmp_path, into)
    assert error.value.key == "rank 1"


def test_collect_missing_rank_times_out(tmp_path: Path, into: Path) -> None:
    shard(0).write(tmp_path)
    with pytest.raises(CheckpointError) as error:
        shard(0, minutes=0.001).collect(tmp_path, into)
    assert (error.value.key, error.value.expected) == ("rank 1", "a shard within 0.001 minutes")


def test_collect_ignores_shards_of_an_earlier_save(tmp_path: Path, into: Path) -> None:
    for rank in range(3):
        shard(rank, name="step_4.6").write(tmp_path)
    shard(0).write(tmp_path)
    with pytest.raises(CheckpointError) as error:
        shard(0, minutes=0.001).collect(tmp_path, into)
    assert error.value.key == "rank 1"


def test_write_disk_returns_other_content_raises_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = manifest._fsync_and_digest

    def digest_and_flip(path: Path) -> object:
        entry = digest(path)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        return entry

    monkeypatch.setattr(manifest, "_fsync_and_digest", digest_and_flip)
    with pytest.raises(CheckpointError) as error:
        shard(1).write(tmp_path)
    assert error.value.key == shard_filename(1, 3)
    marker = shard(1).folder(tmp_path) / shard_filename(1, 3).replace(".safetensors", ".json")
    assert json.loads(marker.read_text())["error"].startswith(
        f"rank 1: {shard_filename(1, 3)}: the content read back"
    )


def test_remove_stale_shards_keeps_the_current_save(tmp_path: Path) -> None:
    old, current = shard(1, name="step_2.5"), shard(1)
    for stale in (old, current):
        stale.write(tmp_path)
    remove_stale_shards(tmp_path, current)
    assert not old.folder(tmp_path).exists()
    assert current.folder(tmp_path).exists()
    remove_stale_shards(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


class FakeStrategy:
    """Two ranks, of which this one is rank 1."""

    rank, world_size, timeout_minutes = 1, 2, 3.0

    def __init__(self, other: dict[str, list[int]]) -> None:
        self.other = other

    def gather(self, value: tuple[int, dict[str, list[int]]]) -> list[tuple[int, dict[str, list[int]]]]:
        return [(7, self.other), value]


def test_make_shard_is_named_by_rank_zero_and_reopened_by_name(tmp_path: Path) -> None:
    full = torch.arange(6.0).reshape(2, 3)
    local: dict[str, tuple[int, torch.Tensor]] = {}
    flatten_state({"m": TensorShard((2, 3), 4, full.flatten()[4:])}, {}, "t", shards=local)
    made, ranges = make_shard(FakeStrategy({"t.m": [0, 4]}), 9, local)  # type: ignore[arg-type]
    assert made is not None
    assert (made.name, made.rank, made.timeout_minutes) == ("step_9.7", 1, 3.0)
    assert ranges == [{"t.m": [0, 4]}, {"t.m": [4, 2]}]
    save_file({"t.m": full.flatten()[:4].clone()}, tmp_path / shard_filename(0, 2))
    save_file(made.tensors, tmp_path / shard_filename(1, 2))
    assert torch.equal(open_shards(tmp_path, ranges)("t.m", [2, 3]).read(), full)


def test_make_shard_nothing_sharded_is_none() -> None:
    assert make_shard(FakeStrategy({}), 9, {}) == (None, [])  # type: ignore[arg-type]
