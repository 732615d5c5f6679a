"""The order of the data: a pure function of seed, epoch and position.

Nothing is remembered, so a resumed run asks for ``micro_batches(epoch, position)`` and is where it was,
without replaying what it has seen.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from xft.data.batching.packing import pack

MicroBatch = list[int]
GROUPING_MEGABATCH = 50
"""From how many shuffled micro-batches rows of like length are put together."""


@dataclass(frozen=True)
class EpochBatchSampler:
    """Which samples go into which micro-batch.

    Attributes:
        lengths: tokens of each sample.
        batch_size: rows in a micro-batch.
        accumulation: micro-batches on each rank in one optimizer step.
        capacity: tokens in a packed row, or ``None``: a row is one sample.
        seed: of the shuffle.
        world_size: ranks that share an epoch.
        grouped: put rows of like length into a micro-batch, for models that want them padded.
    """

    lengths: tuple[int, ...]
    micro_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    pack_length: int | None = None
    seed: int = 0
    world_size: int = 1
    group_by_length: bool = False
    _epochs: dict[int, tuple[MicroBatch, ...]] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    def epoch_rows(self, epoch: int) -> list[list[int]]:
        """The rows of an epoch, in order. Their number is the same in every epoch."""
        shuffle = random.Random(f"{self.seed}-{epoch}")
        order = list(range(len(self.lengths)))
        shuffle.shuffle(order)
        if self.pack_length is None:
            return [[index] for index in order]
        rows = pack(self.lengths, self.pack_length, order)
        shuffle.shuffle(rows)
        return rows

    def epoch(self, epoch: int) -> tuple[MicroBatch, ...]:
        """The micro-batches of an epoch. The tail is kept: the last may be smaller."""
        known = self._epochs.get(epoch)
        if known is None:
            rows = self.epoch_rows(epoch)
            if self.group_by_length and self.pack_length is None:
                rows = self._group(rows, epoch)
            known = tuple(
                [index for row in rows[start : start + self.micro_batch_size] for index in row]
                for start in range(0, len(rows), self.micro_batch_size)
            )
            # An epoch is begun by one thread while another is still in the one before it.
            for other in [each for each in self._epochs if abs(each - epoch) > 1]:
                self._epochs.pop(other, None)
            self._epochs[epoch] = known
        return known

    def _group(self, rows: list[list[int]], epoch: int) -> list[list[int]]:
        """The same rows, neighbours in length side by side. Micro-batches stand in no order of length, but the
        one that is not full stays the last."""
        reach = GROUPING_MEGABATCH * self.micro_batch_size
        for start in range(0, len(rows), reach):
            rows[start : start + reach] = sorted(
                rows[start : start + reach], key=lambda row: self.lengths[row[0]]
            )
        full = len(rows) - len(rows) % self.micro_batch_size
        batches = [
            rows[start : start + self.micro_batch_size] for start in range(0, full, self.micro_batch_size)
        ]
        random.Random(f"{self.seed}-{epoch}-grouped").shuffle(batches)
        return [row for batch in batches for row in batch] + rows[full:]

    @cached_property
    def num_micro_batches(self) -> int:
        """Micro-batches in an epoch, over all ranks."""
        return -(-len(self.epoch_rows(0)) // self.micro_batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch. The last may have fewer micro-batches."""
        return -(-self.num_micro_batches // (self.gradient_accumulation_steps * self.world_size))

    def micro_batches(self, epoch: int, step: int, rank: int = 0) -> list[MicroBatch]:
        """The micro-batches of one rank in one optimizer step of an epoch.

        All ranks get equally many; in the last window of an epoch, a rank that there is nothing
        left for gets an empty one, which is trained with no weight.
        """
        size = self.gradient_accumulation_steps * self.world_size
        part = self.epoch(epoch)[step * size : (step + 1) * size]
        count = -(-len(part) // self.world_size)
        mine: list[MicroBatch] = list(part[rank :: self.world_size])
        return mine + [[] for _ in range(count - len(mine))]


def length_sorted_batches(lengths: Sequence[int], micro_batch_size: int) -> list[MicroBatch]:
    """Micro-batches without shuffling, for validation: neighbours in length stand together."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    return [order[start : start + micro_batch_size] for start in range(0, len(order), micro_batch_size)]
