"""Sample order: which examples form which micro-batch, as a pure function of seed, epoch and position.

Algorithm, for each epoch:
1. Shuffle all examples with a generator seeded by (seed, epoch).
2. With packing: pack them into sequences (best-fit decreasing), then shuffle the sequences. Without: one example per
   sequence.
3. With padding: sort blocks of 50 micro-batches by length, then shuffle the micro-batches.
4. Split the sequences into micro-batches. Deal each step's micro-batches to the ranks in turn.

Properties: every example occurs in exactly one micro-batch per epoch (with ``num_iterations``, that many consecutive steps
use it), and the last micro-batch may be smaller. Nothing is stored, so a resumed run calls ``micro_batches(epoch, step)``
and continues without replaying data. The order of an epoch does not depend on the number of ranks.
Trade-off: the lengths of all examples are in memory, and packing a new epoch takes O(n log n) time; it runs in the
prefetch thread.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from xft.data.batching.packing import pack

MicroBatch = list[int]
"""Indices of the examples of a micro-batch."""
GROUPING_MEGABATCH = 50
"""Number of micro-batches in a block whose sequences are sorted by length."""


@dataclass(frozen=True)
class EpochBatchSampler:
    """Assign the examples of an epoch to micro-batches, steps and ranks.

    Attributes:
        lengths: number of tokens of each example.
        micro_batch_size: number of sequences in a micro-batch.
        gradient_accumulation_steps: number of micro-batches on each rank in one optimizer step.
        pack_length: maximum number of tokens of a packed sequence; ``None`` to put one example in each sequence.
        seed: random seed of the shuffle.
        world_size: number of ranks among which the micro-batches of an epoch are divided.
        group_by_length: put sequences of similar length into a micro-batch, for models that need padding.
        num_iterations: number of consecutive optimizer steps with the same micro-batches.
    """

    lengths: tuple[int, ...]
    micro_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    pack_length: int | None = None
    seed: int = 0
    world_size: int = 1
    group_by_length: bool = False
    num_iterations: int = 1
    _epochs: dict[int, tuple[MicroBatch, ...]] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    def epoch_sequences(self, epoch: int) -> list[list[int]]:
        """Return the examples of each sequence of an epoch, in order. The number of sequences is the same in every epoch."""
        shuffle = random.Random(f"{self.seed}-{epoch}")
        order = list(range(len(self.lengths)))
        shuffle.shuffle(order)
        if self.pack_length is None:
            return [[index] for index in order]
        packed = pack(self.lengths, self.pack_length, order)
        shuffle.shuffle(packed)
        return packed

    def epoch(self, epoch: int) -> tuple[MicroBatch, ...]:
        """Return the micro-batches of an epoch. The last may be smaller."""
        batches = self._epochs.get(epoch)
        if batches is None:
            sequences = self.epoch_sequences(epoch)
            if self.group_by_length and self.pack_length is None:
                sequences = self._group(sequences, epoch)
            batches = tuple(
                [index for indices in sequences[start : start + self.micro_batch_size] for index in indices]
                for start in range(0, len(sequences), self.micro_batch_size)
            )
            # The prefetch thread may be one epoch ahead, so the neighboring epochs are kept.
            for other in [known for known in self._epochs if abs(known - epoch) > 1]:
                self._epochs.pop(other, None)
            self._epochs[epoch] = batches
        return batches

    def _group(self, sequences: list[list[int]], epoch: int) -> list[list[int]]:
        """Sort blocks of one-example sequences by length, then shuffle the micro-batches. A smaller one stays last."""
        block = GROUPING_MEGABATCH * self.micro_batch_size
        for start in range(0, len(sequences), block):
            sequences[start : start + block] = sorted(
                sequences[start : start + block], key=lambda indices: self.lengths[indices[0]]
            )
        full = len(sequences) - len(sequences) % self.micro_batch_size
        batches = [
            sequences[start : start + self.micro_batch_size]
            for start in range(0, full, self.micro_batch_size)
        ]
        random.Random(f"{self.seed}-{epoch}-grouped").shuffle(batches)
        return [indices for batch in batches for indices in batch] + sequences[full:]

    @cached_property
    def num_micro_batches(self) -> int:
        """Number of micro-batches of an epoch, over all ranks."""
        return -(-len(self.epoch_sequences(0)) // self.micro_batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps of an epoch. The last may have fewer micro-batches."""
        size = self.gradient_accumulation_steps * self.world_size
        return self.num_iterations * -(-self.num_micro_batches // size)

    def micro_batches(self, epoch: int, step: int, rank: int = 0) -> list[MicroBatch]:
        """Return the micro-batches of one rank in one optimizer step of an epoch.

        All ranks get the same number. In the last step of an epoch, ranks that run out of data get
        empty ones, which are collated without targets.
        """
        size = self.gradient_accumulation_steps * self.world_size
        begin = step // self.num_iterations * size
        batches = self.epoch(epoch)[begin : begin + size]
        count = -(-len(batches) // self.world_size)
        local: list[MicroBatch] = list(batches[rank :: self.world_size])
        return local + [[] for _ in range(count - len(local))]


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> list[MicroBatch]:
    """Return micro-batches of examples sorted by length, without shuffling, for validation."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
