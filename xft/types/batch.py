"""Batches: samples as tensors for one forward pass."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from xft.types.sample import IGNORE_INDEX


@dataclass(frozen=True, slots=True)
class SequenceParallelGroup:
    """Ranks that split the tokens of each batch among themselves.

    Attributes:
        rank: rank within the group.
        size: number of ranks.
        process_group: torch's process group of these ranks.
    """

    rank: int
    size: int
    process_group: ProcessGroup


@dataclass(slots=True)
class Batch:
    """Samples laid out for one forward pass.

    There are two layouts. *Padding-free*: ``batch`` is 1 and samples are concatenated; ``seq_lens`` holds their
    lengths and attention does not cross their boundaries. *Padded*: one sample per row, padded on the right
    according to ``attention_mask``; ``seq_lens`` is empty.

    Attributes:
        input_ids: ``(batch, seq)``.
        labels: ``(batch, seq)``, ``IGNORE_INDEX`` for tokens that are not in the loss, and always for the first
            token of a sample, which no token predicts.
        position_ids: ``(batch, seq)``, restarting at 0 for each sample.
        attention_mask: ``(batch, seq)`` of 0 and 1, or ``None`` in the padding-free layout.
        seq_lens: lengths of the samples in the padding-free layout.
        desirable: ``(samples,)`` of bool, labels of unpaired completions; ``None`` for samples without one.
        sample_hashes: hash of ids and labels of each sample.
        sequence: ranks that compute this batch together. Each rank holds the whole batch and passes its part of
            the tokens to the model.
        cached_target_positions: ``target_positions``, once computed. They are computed before the batch moves to a
            device, since reading them from there would make the host wait.
        cached_targets_per_sample: ``targets_per_sample``, likewise.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None = None
    seq_lens: list[int] = field(default_factory=list)
    desirable: Tensor | None = None
    sample_hashes: list[int] = field(default_factory=list)
    sequence: SequenceParallelGroup | None = None
    cached_target_positions: Tensor | None = None
    cached_targets_per_sample: list[int] | None = None

    @property
    def num_targets(self) -> int:
        """Number of target tokens."""
        return len(self.target_positions)

    @property
    def num_tokens(self) -> int:
        """Number of tokens without padding."""
        if self.attention_mask is None:
            return self.input_ids.numel()
        return int(self.attention_mask.sum())

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return len(self.seq_lens) or len(self.input_ids)

    @property
    def targets_per_sample(self) -> list[int]:
        """Number of target tokens of each sample."""
        if self.cached_targets_per_sample is None:
            counts = [(labels != IGNORE_INDEX).sum() for labels in self.split(self.labels)]
            self.cached_targets_per_sample = torch.stack(counts).tolist()
        return self.cached_targets_per_sample

    @property
    def target_positions(self) -> Tensor:
        """``(targets,)`` indices into the flattened batch of the tokens whose next token is a target."""
        if self.cached_target_positions is None:
            is_target = self.labels != IGNORE_INDEX
            is_target[:, 0] = False
            self.cached_target_positions = is_target.flatten().nonzero()[:, 0] - 1
        return self.cached_target_positions

    def split(self, tensor: Tensor) -> list[Tensor]:
        """Split a ``(batch, seq)`` tensor into one tensor per sample, without padding."""
        if self.seq_lens:
            return list(tensor[0].split(self.seq_lens))
        if self.attention_mask is None:
            return list(tensor.unbind())
        lengths = self.attention_mask.sum(dim=1).tolist()
        return [row[:length] for row, length in zip(tensor, lengths, strict=True)]

    def pin_memory(self) -> "Batch":
        """Copy every tensor to pinned memory, from which a GPU copies asynchronously."""
        return self._apply(Tensor.pin_memory)

    def to(self, device: torch.device) -> "Batch":
        """Copy every tensor to ``device``; target positions and counts are computed before."""
        if device == self.input_ids.device:
            return self
        return self._apply(lambda tensor: tensor.to(device, non_blocking=True))

    def _apply(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            input_ids=move(self.input_ids),
            labels=move(self.labels),
            position_ids=move(self.position_ids),
            attention_mask=None if self.attention_mask is None else move(self.attention_mask),
            desirable=None if self.desirable is None else move(self.desirable),
            cached_target_positions=move(self.target_positions),
            cached_targets_per_sample=self.targets_per_sample,
        )
