"""Tensors that are split over ranks: one rank's shard, and a reader of shards from several files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, cat


def rows_of_rank(rows: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the first row of a rank and the row after its last one, as ``torch.chunk`` splits them."""
    size = -(-rows // world_size)
    return min(rank * size, rows), min((rank + 1) * size, rows)


@dataclass(frozen=True)
class TensorShard:
    """This rank's contiguous range of a tensor that is split over ranks.

    Attributes:
        shape: shape of the full tensor.
        offset: index of the shard's first element in the flattened full tensor.
        local: ``(elements,)``, on any device; empty if this rank holds none of the tensor.
    """

    shape: tuple[int, ...]
    offset: int
    local: Tensor


@dataclass(frozen=True)
class ShardLocation:
    """Where one shard of a tensor is stored.

    Attributes:
        file: a safetensors file.
        offset: index of the shard's first element in the flattened full tensor.
        numel: number of elements.
    """

    file: Path
    offset: int
    numel: int


class ShardedTensorReader:
    """Read a tensor, or a range of it, from the files that hold its shards.

    Args:
        name: name of the tensor in every file.
        shape: shape of the full tensor.
        shards: locations of all shards, in any order.

    Raises:
        ValueError: the shards do not cover the tensor exactly once.
    """

    def __init__(self, name: str, shape: Sequence[int], shards: Sequence[ShardLocation]) -> None:
        self.name = name
        self.shape = tuple(shape)
        self.shards = sorted((shard for shard in shards if shard.numel), key=lambda shard: shard.offset)
        ends = [0, *(shard.offset + shard.numel for shard in self.shards)]
        if [shard.offset for shard in self.shards] != ends[:-1] or ends[-1] != math.prod(self.shape):
            raise ValueError(f"the shards of {name} do not cover the tensor exactly once")

    @property
    def ndim(self) -> int:
        """Number of dimensions of the full tensor."""
        return len(self.shape)

    def read_range(self, start: int, stop: int) -> Tensor:
        """Read elements ``start`` to ``stop`` of the flattened tensor, and no others."""
        parts = []
        used = [
            shard for shard in self.shards if shard.offset < stop and start < shard.offset + shard.numel
        ]
        # A rank without rows reads nothing of the first shard, which has the dtype of all.
        for shard in used or self.shards[:1]:
            first, last = (max(0, min(bound - shard.offset, shard.numel)) for bound in (start, stop))
            with safe_open(shard.file, "pt") as file:
                parts.append(file.get_slice(self.name)[first:last])
        return cat(parts)

    def read(self) -> Tensor:
        """Read the full tensor in its shape."""
        return self.read_range(0, math.prod(self.shape)).reshape(self.shape)


def read_range(value: Tensor | ShardedTensorReader, start: int, stop: int) -> Tensor:
    """Return elements ``start`` to ``stop`` of a flattened tensor, which a reader may hold."""
    return (
        value.read_range(start, stop)
        if isinstance(value, ShardedTensorReader)
        else value.flatten()[start:stop]
    )


def materialize(value: object) -> Any:
    """Read the full tensor if ``value`` is a reader; return any other value unchanged."""
    return value.read() if isinstance(value, ShardedTensorReader) else value
