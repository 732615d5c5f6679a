"""Batches: samples as tensors for one forward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from xft.types.sample import IGNORE_INDEX, Sample


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


@dataclass(frozen=True, slots=True)
class PolicyTargets:
    """What reinforcement learning knows about the targets of a batch, which are sampled tokens.

    Attributes:
        advantages: ``(samples,)``, the same for all tokens of a completion.
        sampling_log_probs: ``(targets,)`` log-probabilities that the sampler computed.
        old_log_probs: ``(targets,)`` of the policy before the first update with these completions; ``None`` if there
            is one update, in which the policy itself is the old one.
        temperature: of the sampling.
        max_new_tokens: limit of a completion.
    """

    advantages: Tensor
    sampling_log_probs: Tensor
    old_log_probs: Tensor | None = None
    temperature: float = 1.0
    max_new_tokens: int = 1

    def apply(self, move: Callable[[Tensor], Tensor]) -> "PolicyTargets":
        """Return a copy with ``move`` applied to every tensor."""
        return replace(
            self,
            advantages=move(self.advantages),
            sampling_log_probs=move(self.sampling_log_probs),
            old_log_probs=None if self.old_log_probs is None else move(self.old_log_probs),
        )


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
        policy: advantages and log-probabilities of sampled completions; ``None`` for data that was not sampled.
        sample_hashes: hash of ids, labels and images of each sample.
        model_inputs: further inputs of the model by name, such as the pixels of images.
        token_inputs: further inputs with a value for each token in their last dimension. ``position_ids`` among them
            replace those of the batch.
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
    policy: PolicyTargets | None = None
    sample_hashes: list[int] = field(default_factory=list)
    model_inputs: dict[str, Tensor] = field(default_factory=dict)
    token_inputs: dict[str, Tensor] = field(default_factory=dict)
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
            policy=None if self.policy is None else self.policy.apply(move),
            model_inputs={name: move(value) for name, value in self.model_inputs.items()},
            token_inputs={name: move(value) for name, value in self.token_inputs.items()},
            cached_target_positions=move(self.target_positions),
            cached_targets_per_sample=self.targets_per_sample,
        )


@dataclass(frozen=True, slots=True)
class ImageInputs:
    """Inputs of a model for the images of a batch.

    Attributes:
        model_inputs, token_inputs: as in :class:`Batch`.
    """

    model_inputs: dict[str, Tensor]
    token_inputs: dict[str, Tensor]


class ImageProcessor(Protocol):
    """Converts images to tokens and to inputs of a model.

    Attributes:
        token: text that a chat template writes for an image, and that ``expand`` replaces.
        placeholder: text that a template without images writes for an image; it contains ``token``.
        token_ids: ids of the tokens that the model replaces by features of an image.
        fingerprint: hash of everything that decides the tokens of an image.
        filler: sample with an image and without targets, for batches without images; ``None`` if the parts of the model
            that see images are frozen. With it, each parameter gets a gradient in each batch, as DDP and ZeRO need.
    """

    token: str
    placeholder: str
    token_ids: frozenset[int]
    fingerprint: str
    filler: Sample | None

    def expand(self, sizes: Sequence[tuple[int, int]]) -> list[str]:
        """Return the text that replaces ``token``, for each image of a sample by height and width."""

    def count_tokens(self, size: tuple[int, int]) -> int:
        """Return the number of tokens of an image by height and width, those that delimit it included."""

    def save(self, folder: Path) -> None:
        """Write the files of the processor into the folder of a model."""

    def generation_inputs(self, prompts: Sequence[Sample]) -> dict[str, Tensor]:
        """Read the pixels of prompts, and return the further arguments of ``generate``.

        Args:
            prompts: padded on the left to rows of one length.
        """

    def model_inputs(self, samples: Sequence[Sample], length: int | None) -> ImageInputs:
        """Read the pixels of some samples, and return the further inputs of the model for a batch of them.

        Args:
            samples: samples of the batch.
            length: length of a padded row; ``None`` if the samples are concatenated.
        """
