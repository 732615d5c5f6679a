"""Shares of a checkpoint: what each rank writes itself, and what is read of it later.

Under ZeRO each rank has a piece of the optimizer's state. Sent to the first rank, it would have to fit
into the memory of that host, and one process would write it all; so each rank writes a file of its own, and
the first one takes them into the checkpoint. The state says which numbers of which tensor lie in which file, so
any number of ranks can read it back, each what it wants.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from xft.checkpoint import manifest
from xft.checkpoint.protocol import Strategy
from xft.checkpoint.sharded import ShardedTensorReader, ShardLocation
from xft.errors import CheckpointError

PAUSE = 0.05
"""Seconds between two looks for the shares of other ranks."""


def file_of(rank: int, world_size: int) -> str:
    """The name of a rank's file."""
    return f"training_state-{rank + 1:05}-of-{world_size:05}.safetensors"


@dataclass(frozen=True)
class Share:
    """What one rank writes of a checkpoint.

    Attributes:
        rank: of it.
        world_size: how many ranks there are.
        name: of this save, the same on all ranks; no two saves of a run have the same.
        tensors: flat pieces, in the memory of the host.
        minutes: how long the first rank waits for the others.
    """

    rank: int
    world_size: int
    name: str
    tensors: dict[str, Tensor]
    minutes: float

    @property
    def size(self) -> int:
        """Bytes that the shares of all ranks take, nearly: they are equally large."""
        return self.world_size * sum(each.nbytes for each in self.tensors.values())

    def folder(self, root: Path) -> Path:
        """Where ranks leave their files until the first one takes them."""
        return root / f".{self.name}.shards"

    def write(self, root: Path) -> None:
        """Write this rank's file, see that it is on the disk, and leave a note beside it. What goes wrong is
        noted too, for the first rank waits.

        Raises:
            OSError: the disk does not take it.
            CheckpointError: the disk gives back something else.
        """
        folder = self.folder(root)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / file_of(self.rank, self.world_size)
        try:
            save_file(self.tensors, path)
            note = manifest.prove(path)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            _leave(path, {"error": f"rank {self.rank}: {reason}"})
            raise
        _leave(path, note)

    def collect(self, root: Path, into: Path) -> dict[str, Any]:
        """Wait for the files of all ranks, and move them.

        Args:
            root: the folder of the checkpoints.
            into: the folder of this one.

        Returns:
            Size and checksum of each file, by its name.

        Raises:
            CheckpointError: a rank could not write, or has not written in that time.
        """
        folder, found = self.folder(root), {}
        end = time.monotonic() + 60 * self.minutes
        for rank in range(self.world_size):
            path = folder / file_of(rank, self.world_size)
            while not (note := _note_of(path)).exists():
                if time.monotonic() > end:
                    raise CheckpointError(
                        f"rank {rank} has not written its share within {self.minutes:g} minutes"
                    )
                time.sleep(PAUSE)
            said = json.loads(note.read_text(encoding="utf-8"))
            if "error" in said:
                raise CheckpointError(said["error"])
            os.rename(path, into / path.name)
            note.unlink()
            found[path.name] = said
        folder.rmdir()
        return found


def take_share(
    strategy: Strategy, step: int, shares: Mapping[str, tuple[int, Tensor]]
) -> tuple[Share | None, list[dict[str, list[int]]]]:
    """What this rank writes of a checkpoint. All ranks must call it.

    Args:
        strategy: what trains.
        step: of the checkpoint.
        shares: of ``state.pack``.

    Returns:
        The share, ``None`` where ranks have none; and for each rank where its piece of each tensor begins,
        and how many numbers it has.
    """
    if not shares:
        return None, []
    own = {name: [begin, each.numel()] for name, (begin, each) in shares.items()}
    said = strategy.gather((time.time_ns(), own))
    share = Share(
        rank=strategy.rank,
        world_size=strategy.world_size,
        name=f"step_{step}.{said[0][0]}",
        tensors={name: each for name, (_, each) in shares.items()},
        minutes=strategy.timeout_minutes,
    )
    return share, [places for _, places in said]


def sweep(root: Path, current: Share | None) -> None:
    """Take away what ranks left of saves that the first one had given up by then.

    Args:
        root: the folder of the checkpoints.
        current: what is being written now, and stays.
    """
    for each in root.glob(".step_*.shards"):
        if current is None or each != current.folder(root):
            shutil.rmtree(each, ignore_errors=True)


def reader(
    folder: Path, places: Sequence[Mapping[str, Sequence[int]]]
) -> Callable[[str, Sequence[int]], ShardedTensorReader]:
    """Finds the tensors of a checkpoint that ranks have written in pieces, by name and shape.

    Args:
        folder: the checkpoint.
        places: what ``take_share`` gave.
    """
    files = [folder / file_of(rank, len(places)) for rank in range(len(places))]

    def find(name: str, shape: Sequence[int]) -> ShardedTensorReader:
        spans = [(int(begin), int(count)) for begin, count in (each[name] for each in places)]
        shards = [ShardLocation(file, *span) for file, span in zip(files, spans, strict=True)]
        return ShardedTensorReader(name, shape, shards)

    return find


def _note_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _leave(path: Path, said: Mapping[str, Any]) -> None:
    """Leave a note, whole or not at all."""
    note = _note_of(path)
    half = note.with_suffix(".tmp")
    half.write_text(json.dumps(said), encoding="utf-8")
    os.replace(half, note)
