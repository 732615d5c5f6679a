"""Write the shard of each rank to a file, and collect the files on rank 0.

With ZeRO and FSDP2, each rank holds a shard of the optimizer state. Gathering the state would require all of it to
fit into the memory of rank 0, and a single process to write it. Instead, each rank writes its own file, and
rank 0 moves the files into the checkpoint. The training state records which elements of which tensor are in
which file, so that a run with any world size can read the elements that it needs.
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
from xft.checkpoint.state_tree import LocalShards
from xft.checkpoint.weight_parts import WeightPart
from xft.distributed.sharded import ShardedTensorReader, ShardLocation
from xft.errors import CheckpointError
from xft.strategies import Strategy

POLL_INTERVAL_S = 0.05
"""Seconds between two checks for the shards of other ranks, which may be on other machines."""


def shard_filename(rank: int, world_size: int) -> str:
    """Return the name of a rank's file."""
    return f"training_state-{rank + 1:05}-of-{world_size:05}.safetensors"


@dataclass(frozen=True)
class CheckpointShard:
    """The part of a checkpoint that one rank writes.

    Attributes:
        rank: rank of this process.
        world_size: number of ranks.
        name: name of this save: the same on all ranks, unique within a run.
        tensors: flat shards in CPU memory.
        timeout_minutes: how long rank 0 waits for the others.
        weights: this rank's part of the weights; ``None`` if they are not partitioned among the ranks.
    """

    rank: int
    world_size: int
    name: str
    tensors: dict[str, Tensor]
    timeout_minutes: float
    weights: WeightPart | None = None

    @property
    def total_bytes(self) -> int:
        """Approximate size of the shards of all ranks in bytes, assuming shards of equal size.

        Partitioned weights count twice: rank 0 writes the model while the files of the parts exist.
        """
        weights = 0 if self.weights is None else self.weights.nbytes
        return self.world_size * (sum(tensor.nbytes for tensor in self.tensors.values()) + 2 * weights)

    def folder(self, root: Path) -> Path:
        """Return the folder in which all ranks write their files, for rank 0 to collect."""
        return root / f".{self.name}.shards"

    def write(self, root: Path) -> None:
        """Write and verify this rank's files, then its completion marker.

        A failure is recorded in the marker too, because rank 0 waits for it.

        Raises:
            OSError, SafetensorError: a file cannot be written to disk.
            CheckpointError: the content read back from the disk differs.
        """
        folder = self.folder(root)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / shard_filename(self.rank, self.world_size)
        try:
            save_file(self.tensors, path)
            entry = manifest.fsync_and_verify(path)
            if self.weights is not None:
                manifest.fsync_and_verify(self.weights.write(folder))
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            _write_json_atomic(_completion_marker(path), {"error": f"rank {self.rank}: {reason}"})
            raise
        _write_json_atomic(_completion_marker(path), entry)

    def collect(self, root: Path, target: Path) -> dict[str, Any]:
        """Wait for the files of all ranks and move those of the training state into the checkpoint.

        Args:
            root: the checkpoint directory.
            target: the temporary folder of this checkpoint.

        Returns:
            The manifest entry of each file by name.

        Raises:
            CheckpointError: a rank failed to write its file or exceeded the timeout.
        """
        folder = self.folder(root)
        entries: dict[str, Any] = {}
        deadline = time.monotonic() + 60 * self.timeout_minutes
        for rank in range(self.world_size):
            path = folder / shard_filename(rank, self.world_size)
            marker = _completion_marker(path)
            while not marker.exists():
                if time.monotonic() > deadline:
                    raise CheckpointError(
                        f"rank {rank} has not written its shard within {self.timeout_minutes:g} minutes",
                        key=f"rank {rank}",
                        expected=f"a shard within {self.timeout_minutes:g} minutes",
                    )
                time.sleep(POLL_INTERVAL_S)
            entry = json.loads(marker.read_text(encoding="utf-8"))
            if "error" in entry:
                raise CheckpointError(entry["error"], key=f"rank {rank}")
            os.rename(path, target / path.name)
            marker.unlink()
            entries[path.name] = entry
        return entries

    def open_weights(self, root: Path) -> dict[str, Tensor] | None:
        """Map the weights of all ranks into memory after :meth:`collect`; ``None`` if they are not partitioned.

        Raises:
            OSError, SafetensorError: a file cannot be read.
        """
        return None if self.weights is None else self.weights.open_all(self.folder(root))

    def remove(self, root: Path) -> None:
        """Remove the folder of the files that were not moved, if it exists."""
        shutil.rmtree(self.folder(root), ignore_errors=True)


def make_shard(
    strategy: Strategy, step: int, local: LocalShards, weights: WeightPart | None = None
) -> tuple[CheckpointShard | None, list[dict[str, list[int]]]]:
    """Prepare the part of a checkpoint that this rank writes. Collective if any tensor is sharded.

    Args:
        strategy: the strategy.
        step: step of the checkpoint.
        local: shards that ``flatten_state`` copied.
        weights: this rank's part of the weights; ``None`` if they are not partitioned among the ranks.

    Returns:
        The shard, ``None`` if nothing is sharded; and for each rank ``[offset, numel]`` of its shard of
        each tensor.
    """
    if not local and weights is None:
        return None, []
    ranges = {name: [offset, tensor.numel()] for name, (offset, tensor) in local.items()}
    # The time on rank 0 makes the name of the save unique.
    gathered = strategy.gather((time.time_ns(), ranges))
    shard = CheckpointShard(
        rank=strategy.rank,
        world_size=strategy.world_size,
        name=f"step_{step}.{gathered[0][0]}",
        tensors={name: tensor for name, (_, tensor) in local.items()},
        timeout_minutes=strategy.timeout_minutes,
        weights=weights,
    )
    return shard, [rank_ranges for _, rank_ranges in gathered]


def remove_stale_shards(root: Path, current: CheckpointShard | None) -> None:
    """Remove shard directories of saves that rank 0 has already abandoned.

    Args:
        root: the checkpoint directory.
        current: the shard being written, which is kept.
    """
    for folder in root.glob(".step_*.shards"):
        if current is None or folder != current.folder(root):
            shutil.rmtree(folder, ignore_errors=True)


def open_shards(
    folder: Path, ranges: Sequence[Mapping[str, Sequence[int]]]
) -> Callable[[str, Sequence[int]], ShardedTensorReader]:
    """Return a function that opens a sharded tensor of a checkpoint by name and shape.

    Args:
        folder: the checkpoint.
        ranges: the second result of ``make_shard``.
    """
    files = [folder / shard_filename(rank, len(ranges)) for rank in range(len(ranges))]

    def open_tensor(name: str, shape: Sequence[int]) -> ShardedTensorReader:
        shards = [
            ShardLocation(file, int(offset), int(numel))
            for file, (offset, numel) in zip(
                files, (rank_ranges[name] for rank_ranges in ranges), strict=True
            )
        ]
        return ShardedTensorReader(name, shape, shards)

    return open_tensor


def _completion_marker(path: Path) -> Path:
    return path.with_suffix(".json")


def _write_json_atomic(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    os.replace(temporary, path)
