"""Completions as samples of the loss: their layout in batches, and their tensors in checkpoints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xft.data import Collator
from xft.models.sampling import SampledTokens
from xft.rollouts.collector import Rollout
from xft.rollouts.config import RolloutConfig
from xft.types import IGNORE_INDEX, Batch, PolicyTargets, Sample


@dataclass(frozen=True)
class PolicySample:
    """A completion to train on.

    Attributes:
        sample: prompt and completion; the sampled tokens are its targets. Or a prompt with the answer of its row.
        sampling_log_probs: ``(targets,)`` log-probabilities that the sampler computed; zeros for an answer of a row.
        advantage: advantage of the completion; 1 for an answer of a row.
        old_log_probs: ``(targets,)`` log-probabilities of the policy before the first update with these completions; ``None``
            during the first update.
    """

    sample: Sample
    sampling_log_probs: Tensor
    advantage: float
    old_log_probs: Tensor | None = None


def to_policy_samples(rollouts: Sequence[Rollout], answers: Sequence[Sample] = ()) -> list[PolicySample]:
    """Convert completions to samples, each after its prompt. Completions whose advantage is NaN are excluded.

    Args:
        rollouts: rollouts with advantages.
        answers: prompts with the answers of their rows, which were not sampled. They follow the completions, with sampling
            log-probabilities of 0 and an advantage of 1.
    """
    samples = [
        PolicySample(_with_completion(rollout.prompt, tokens), _float32(tokens.log_probs), advantage)
        for rollout in rollouts
        for tokens, advantage in zip(rollout.tokens, rollout.advantages, strict=True)
        if not math.isnan(advantage)
    ]
    return samples + [PolicySample(answer, torch.zeros(answer.num_targets), 1.0) for answer in answers]


def with_old_log_probs(samples: Sequence[PolicySample], log_probs: Tensor) -> list[PolicySample]:
    """Return copies of the samples with the log-probabilities of the old policy.

    Args:
        samples: completions.
        log_probs: ``(targets,)`` log-probabilities of the targets of all samples, in their order.
    """
    counts = [len(sample.sampling_log_probs) for sample in samples]
    return [
        replace(sample, old_log_probs=part)
        for sample, part in zip(samples, log_probs.split(counts), strict=True)
    ]


@dataclass(frozen=True)
class PolicyBatcher:
    """Lay completions out in batches.

    Attributes:
        collator: collator of the run.
        config: sampling settings. A batch has at most ``pack_length`` tokens, padding included, or one completion.
    """

    collator: Collator
    config: RolloutConfig

    def batches(self, samples: Sequence[PolicySample]) -> list[Batch]:
        """Lay completions out, in their order."""
        batches: list[Batch] = []
        pending: list[PolicySample] = []
        for sample in samples:
            if pending and self._size([*pending, sample]) > self.config.pack_length:
                batches.append(self._batch(pending))
                pending = []
            pending.append(sample)
        return [*batches, self._batch(pending)] if pending else batches

    def full_batch(self, samples: Sequence[PolicySample]) -> Batch | None:
        """Return the largest batch that completions of a step can form, for the memory measurement of the dry run.

        Why: the dry run samples completions of the maximum length, whose batches may be shorter than ``pack_length``. In
        training, shorter completions can fill a batch. Here, completions are cut at their start to fill it.

        Args:
            samples: completions of a step, the longest first.

        Returns:
            A batch of ``pack_length`` tokens, or one token less if a last token is left, which has no target. If the
            layout is padded, ``rows`` completions of ``pack_length // rows`` tokens, padding included, with the smallest
            ``rows`` for which they are not longer than the longest completion. ``None`` if :meth:`batches` lays out the
            worst case: all completions fit in one batch, or the longest one has at least ``pack_length`` tokens.
        """
        pack_length, longest = self.config.pack_length, len(samples[0].sample)
        if longest >= pack_length or self._size(samples) <= pack_length:
            return None
        if self.collator.is_padded:
            rows = -(-pack_length // longest)
            return self._batch([_cut_start(sample, pack_length // rows) for sample in samples[:rows]])
        chosen: list[PolicySample] = []
        for sample in samples:
            # A sample with a target has at least two tokens.
            if (remaining := pack_length - self._size(chosen)) >= 2:
                chosen.append(_cut_start(sample, remaining))
        return self._batch(chosen)

    def dummy_batch(self, sample: Sample) -> Batch:
        """Return a batch without targets, for a rank that has no completions left."""
        return replace(self.collator.collate([sample], []), policy=self._policy([]))

    def _size(self, samples: Sequence[PolicySample]) -> int:
        """Return the number of tokens of a batch, padding included."""
        lengths = [len(sample.sample) for sample in samples]
        return max(lengths) * len(lengths) if self.collator.is_padded else sum(lengths)

    def _batch(self, samples: Sequence[PolicySample]) -> Batch:
        batch = self.collator.collate([sample.sample for sample in samples], range(len(samples)))
        return replace(batch, policy=self._policy(samples))

    def _policy(self, samples: Sequence[PolicySample]) -> PolicyTargets:
        old = [sample.old_log_probs for sample in samples if sample.old_log_probs is not None]
        return PolicyTargets(
            torch.tensor([sample.advantage for sample in samples], dtype=torch.float32),
            _concatenate([sample.sampling_log_probs for sample in samples]),
            _concatenate(old) if old else None,
            temperature=self.config.temperature,
            max_new_tokens=self.config.max_new_tokens * self.config.num_turns,
        )


def policy_samples_to_tensors(samples: Sequence[PolicySample]) -> dict[str, Tensor]:
    """Return completions as tensors, for a checkpoint.

    Returns:
        The tensors of all samples, concatenated in their order:

        - ``lengths``: ``(samples,)`` int64, number of tokens of each sample.
        - ``input_ids``, ``labels``: ``(tokens,)`` int32.
        - ``advantages``: ``(samples,)`` float64.
        - ``sampling_log_probs``: ``(targets,)`` float32.
        - ``old_log_probs``: ``(targets,)`` float32 (float64 for a model in fp64); absent if no sample has them.
    """
    tensors = {
        "lengths": torch.tensor([len(sample.sample) for sample in samples], dtype=torch.int64),
        "input_ids": _concatenate([torch.from_numpy(sample.sample.input_ids) for sample in samples]),
        "labels": _concatenate([torch.from_numpy(sample.sample.labels) for sample in samples]),
        "advantages": torch.tensor([sample.advantage for sample in samples], dtype=torch.float64),
        "sampling_log_probs": _concatenate([sample.sampling_log_probs for sample in samples]),
    }
    old = [sample.old_log_probs for sample in samples if sample.old_log_probs is not None]
    return {**tensors, "old_log_probs": _concatenate(old)} if old else tensors


def policy_samples_from_tensors(tensors: Mapping[str, Tensor]) -> list[PolicySample]:
    """Return the completions of a checkpoint.

    Args:
        tensors: result of :func:`policy_samples_to_tensors`.
    """
    lengths = tensors["lengths"].tolist()
    rows = zip(tensors["input_ids"].split(lengths), tensors["labels"].split(lengths), strict=True)
    encoded = [Sample(ids.numpy(), labels.numpy()) for ids, labels in rows]
    log_probs = tensors["sampling_log_probs"].split([sample.num_targets for sample in encoded])
    values = zip(encoded, log_probs, tensors["advantages"].tolist(), strict=True)
    samples = [PolicySample(*value) for value in values]
    return with_old_log_probs(samples, tensors["old_log_probs"]) if "old_log_probs" in tensors else samples


def _with_completion(prompt: Sequence[int], completion: SampledTokens) -> Sample:
    ids = np.array([*prompt, *completion.ids], dtype=np.int32)
    labels = ids.copy()
    labels[: len(prompt)] = IGNORE_INDEX
    if completion.sampled:
        labels[len(prompt) :][~np.array(completion.sampled)] = IGNORE_INDEX
    return Sample(ids, labels)


def _cut_start(sample: PolicySample, length: int) -> PolicySample:
    """Keep the last ``length`` tokens, or all."""
    if len(sample.sample) <= length:
        return sample
    ids, labels = sample.sample.input_ids[-length:], sample.sample.labels[-length:].copy()
    labels[0] = IGNORE_INDEX
    cut = Sample(ids, labels)
    log_probs = sample.sampling_log_probs[len(sample.sampling_log_probs) - cut.num_targets :]
    return PolicySample(cut, log_probs, sample.advantage)


def _concatenate(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([*parts]) if parts else torch.zeros(0)


def _float32(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
