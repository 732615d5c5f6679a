"""Base classes of objectives on preference pairs, and their common metrics.

A pair is two neighboring samples, the chosen completion first. Both go through the model in one forward pass.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from xft.models.scoring import sequence_log_probs
from xft.objectives.base import Objective
from xft.types import Batch, LossOutput


@dataclass(frozen=True)
class CompletionLogProbs:
    """Log-probabilities of one side of the pairs.

    Attributes:
        log_probs: ``(pairs,)`` log-probability of each completion, summed over its target tokens.
        lengths: ``(pairs,)`` number of target tokens.
    """

    log_probs: Tensor
    lengths: Tensor

    @property
    def mean(self) -> Tensor:
        """``(pairs,)`` mean log-probability per token."""
        return self.log_probs / self.lengths


@dataclass(frozen=True)
class PairLogProbs:
    """Log-probabilities of the pairs of a batch.

    Attributes:
        chosen: of the chosen completions.
        rejected: of the rejected completions.
        index: ``(2, pairs)`` positions of the two among the samples of the batch.
        num_chosen_tokens: number of target tokens of all chosen completions.
    """

    chosen: CompletionLogProbs
    rejected: CompletionLogProbs
    index: Tensor
    num_chosen_tokens: int

    def __len__(self) -> int:
        return self.index.shape[1]


@dataclass(frozen=True)
class PairLosses:
    """Losses and rewards of pairs.

    Attributes:
        losses: ``(pairs,)``.
        chosen_rewards: ``(pairs,)`` rewards of the chosen completions, as the objective defines them.
        rejected_rewards: ``(pairs,)`` rewards of the rejected completions.
    """

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


class PairedObjective(Objective):
    """Base class of objectives on preference pairs. Its targets are pairs."""

    data_kind: ClassVar[str] = "pairs"

    def count_targets(self, batch: Batch) -> int:
        """Count the pairs of a batch."""
        return count_pairs(batch.targets_per_sample)


class PairObjective(PairedObjective):
    """Base class of objectives on preference pairs without a reference model.

    The loss is summed over pairs. Metrics, named as in TRL, are means over pairs unless stated otherwise:

    - ``rewards/chosen``, ``rewards/rejected``: as the objective defines them;
    - ``rewards/margins``: their difference; ``rewards/accuracies``: fraction of margins above zero;
    - ``logps/chosen``, ``logps/rejected``: log-probability of a completion;
    - ``length/chosen``, ``length/rejected``: its number of target tokens;
    - ``nll_loss``: negative log-likelihood per token of the chosen completions, averaged over tokens.
    """

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its pairs."""
        pairs = pair_log_probs(model, batch)
        return to_loss_output(self.pair_losses(pairs), pairs)

    @abstractmethod
    def pair_losses(self, pairs: PairLogProbs) -> PairLosses:
        """Compute losses and rewards of pairs."""


def count_pairs(counts: list[int]) -> int:
    """Count the pairs of a batch: samples ``2i`` (chosen) and ``2i + 1`` (rejected).

    A batch without targets has no pairs. Ranks that ran out of data process such a batch.

    Args:
        counts: number of target tokens of each sample.

    Raises:
        ValueError: samples are not pairs.
    """
    if not any(counts):
        return 0
    if len(counts) % 2 or not all(counts):
        raise ValueError(
            f"got samples with {counts} target tokens, expected pairs of neighbors with at least one each; "
            "data.type='preference' gives pairs"
        )
    return len(counts) // 2


def pair_indices(counts: list[int], device: torch.device) -> Tensor:
    """Compute the positions of chosen and rejected completions among the samples of a batch.

    Args:
        counts: number of target tokens of each sample.
        device: device of the result.

    Returns:
        ``(2, pairs)``.
    """
    numbers = torch.arange(count_pairs(counts))
    return torch.stack([2 * numbers, 2 * numbers + 1]).to(device, non_blocking=True)


def pair_log_probs(model: nn.Module, batch: Batch) -> PairLogProbs:
    """Compute the log-probabilities of both completions of every pair."""
    scores = sequence_log_probs(model, batch)
    index = pair_indices(scores.counts, scores.log_probs.device)
    chosen, rejected = (CompletionLogProbs(scores.log_probs[side], scores.lengths[side]) for side in index)
    return PairLogProbs(chosen, rejected, index, sum(scores.counts[::2]))


def to_loss_output(result: PairLosses, pairs: PairLogProbs) -> LossOutput:
    """Sum losses over pairs and add the metrics of :class:`PairObjective`."""
    metrics = reward_metrics(result, pairs.chosen.lengths, pairs.rejected.lengths) | {
        "logps/chosen": pairs.chosen.log_probs.detach().sum(),
        "logps/rejected": pairs.rejected.log_probs.detach().sum(),
        "nll_loss": -pairs.chosen.log_probs.detach().sum(),
    }
    return LossOutput(result.losses.sum(), len(pairs), metrics, {"nll_loss": pairs.num_chosen_tokens})


def reward_metrics(
    result: PairLosses, chosen_lengths: Tensor, rejected_lengths: Tensor
) -> dict[str, Tensor]:
    """Sum rewards and lengths over pairs.

    Args:
        result: losses and rewards.
        chosen_lengths: ``(pairs,)`` target tokens of the chosen completions.
        rejected_lengths: ``(pairs,)`` target tokens of the rejected completions.
    """
    chosen, rejected = result.chosen_rewards.detach(), result.rejected_rewards.detach()
    margins = chosen - rejected
    return {
        "rewards/chosen": chosen.sum(),
        "rewards/rejected": rejected.sum(),
        "rewards/margins": margins.sum(),
        "rewards/accuracies": (margins > 0).sum(),
        "length/chosen": chosen_lengths.sum(),
        "length/rejected": rejected_lengths.sum(),
    }
