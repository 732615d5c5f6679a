"""Each rank writes its share of a checkpoint itself; the first one takes them together."""

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from xft.checkpoint import manifest
from xft.checkpoint.shards import Share, file_of, sweep
from xft.errors import CheckpointError


def share(rank: int, minutes: float = 1.0, name: str = "step_4.7") -> Share:
    return Share(rank, 3, name, {"m": torch.full((rank + 1,), float(rank))}, minutes)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "step_4"
    folder.mkdir()
    return folder


def test_the_first_rank_waits_for_all_and_takes_their_files(tmp_path: Path, into: Path) -> None:
    share(0).write(tmp_path)
    late = threading.Timer(0.3, lambda: [share(rank).write(tmp_path) for rank in (2, 1)])
    late.start()
    proven = share(0).collect(tmp_path, into)
    late.join()
    assert (
        sorted(proven) == sorted(each.name for each in into.iterdir()) == [file_of(r, 3) for r in range(3)]
    )
    for rank in range(3):
        assert load_file(into / file_of(rank, 3))["m"].tolist() == [float(rank)] * (rank + 1)
    assert not share(0).folder(tmp_path).exists()
    manifest.seal(into, proven)
    assert manifest.damage(into) is None
    (into / file_of(1, 3)).write_bytes(b"x" * (into / file_of(1, 3)).stat().st_size)
    assert manifest.damage(into) == f"{file_of(1, 3)} has another checksum than manifest.json says"


def test_a_rank_that_cannot_write_is_named(tmp_path: Path, into: Path) -> None:
    share(0).write(tmp_path)
    (share(0).folder(tmp_path) / file_of(1, 3)).mkdir()  # nothing can be written under that name
    with pytest.raises(Exception, match=r"."):
        share(1).write(tmp_path)
    with pytest.raises(CheckpointError, match=r"^rank 1: "):
        share(0).collect(tmp_path, into)


def test_a_rank_that_does_not_write_is_not_waited_for_without_end(tmp_path: Path, into: Path) -> None:
    share(0).write(tmp_path)
    with pytest.raises(CheckpointError, match=r"rank 1 has not written its share within 0\.001 minutes"):
        share(0, minutes=0.001).collect(tmp_path, into)


def test_what_an_earlier_save_left_is_not_taken(tmp_path: Path, into: Path) -> None:
    for rank in range(3):
        share(rank, name="step_4.6").write(tmp_path)
    share(0).write(tmp_path)
    with pytest.raises(CheckpointError, match="rank 1 has not written"):
        share(0, minutes=0.001).collect(tmp_path, into)


def test_a_disk_that_gives_back_something_else_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = manifest._settle

    def settle_and_flip(path: Path) -> object:
        found = settle(path)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        return found

    monkeypatch.setattr(manifest, "_settle", settle_and_flip)
    with pytest.raises(CheckpointError, match="is not what was written"):
        share(1).write(tmp_path)
    note = share(1).folder(tmp_path) / file_of(1, 3).replace(".safetensors", ".json")
    assert json.loads(note.read_text())["error"].startswith("rank 1: what the disk gives back")


def test_what_is_left_of_saves_that_were_given_up_is_swept(tmp_path: Path) -> None:
    old, current = share(1, name="step_2.5"), share(1)
    for each in (old, current):
        each.write(tmp_path)
    sweep(tmp_path, current)
    assert not old.folder(tmp_path).exists()
    assert current.folder(tmp_path).exists()
    sweep(tmp_path, None)
    assert list(tmp_path.iterdir()) == []
