"""What the objectives of preference pairs share: how pairs are read from a batch, and reported.

A pair is two neighbouring samples, the chosen answer first; both go through the model in one
forward pass.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from xft.errors import ConfigError
from xft.models.scoring import sequence_log_probs
from xft.types import Batch, LossOutput


@dataclass(frozen=True)
class Answers:
    """What a model says of one side of the pairs, all ``(pairs,)``.

    Attributes:
        log_probs: of the trained tokens, added up.
        lengths: how many those are.
    """

    log_probs: Tensor
    lengths: Tensor

    @property
    def mean(self) -> Tensor:
        """The log-probability of a token, on average."""
        return self.log_probs / self.lengths


@dataclass(frozen=True)
class Pairs:
    """What a model says of the pairs of a batch.

    Attributes:
        chosen: the chosen answers.
        rejected: the rejected answers.
        index: ``(2, pairs)``, where the two stand among the samples of the batch.
        num_tokens: how many tokens of the chosen answers are trained.
    """

    chosen: Answers
    rejected: Answers
    index: Tensor
    num_tokens: int

    def __len__(self) -> int:
        return self.index.shape[1]


@dataclass(frozen=True)
class Compared:
    """What an objective makes of pairs.

    Attributes:
        losses: ``(pairs,)``.
        chosen: ``(pairs,)`` rewards of the chosen answers, as the objective defines them.
        rejected: ``(pairs,)`` rewards of the rejected answers.
    """

    losses: Tensor
    chosen: Tensor
    rejected: Tensor


class PairObjective(ABC):
    """An objective of preference pairs that needs no reference.

    The loss is summed over pairs. Metrics, all of them means over pairs unless they say otherwise:

    - ``rewards/chosen``, ``rewards/rejected``: as the objective defines them;
    - ``rewards/margins``: their difference; ``rewards/accuracies``: how often it is above zero;
    - ``logps/chosen``, ``logps/rejected``: log-probability of an answer;
    - ``length/chosen``, ``length/rejected``: its trained tokens;
    - ``nll_loss``: negative log-likelihood of a token of the chosen answers, the mean over tokens.
    """

    learns_from: ClassVar[str] = "pairs"

    def count(self, batch: Batch) -> int:
        """How many pairs a batch has."""
        return len(present_pairs(batch.targets_per_sample))

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """The loss of a batch, summed over its pairs."""
        pairs = read_pairs(model, batch)
        return report(self.compare(pairs), pairs)

    @abstractmethod
    def compare(self, pairs: Pairs) -> Compared:
        """Losses and rewards of pairs."""


def present_pairs(counts: list[int]) -> list[int]:
    """Which pairs a batch has: numbers such that 2i is the chosen sample and 2i + 1 the rejected.

    A batch in which nothing is trained has none: it only keeps a rank in step with the others.

    Args:
        counts: the trained tokens of each sample.
    """
    if not any(counts):
        return []
    if len(counts) % 2 or not all(counts):
        raise ValueError(
            f"got samples with {counts} trained tokens, expected pairs of neighbours that both have some; "
            "data of pairs comes from data.type='preference'"
        )
    return list(range(len(counts) // 2))


def index_pairs(counts: list[int], device: torch.device) -> Tensor:
    """``(2, pairs)``: where the chosen and the rejected answers stand among the samples of a batch.

    Args:
        counts: the trained tokens of each sample.
        device: of the result.
    """
    numbers = torch.tensor(present_pairs(counts), dtype=torch.long)
    return torch.stack([2 * numbers, 2 * numbers + 1]).to(device, non_blocking=True)


def read_pairs(model: nn.Module, batch: Batch) -> Pairs:
    """Ask a model for both answers of every pair."""
    scores = sequence_log_probs(model, batch)
    index = index_pairs(scores.counts, scores.log_probs.device)
    chosen, rejected = (Answers(scores.log_probs[each], scores.lengths[each]) for each in index)
    return Pairs(chosen, rejected, index, sum(scores.counts[::2]))


def report(compared: Compared, pairs: Pairs) -> LossOutput:
    """Sum up the losses of pairs, and what is worth knowing beside them."""
    metrics = sum_rewards(compared, pairs.chosen.lengths, pairs.rejected.lengths) | {
        "logps/chosen": pairs.chosen.log_probs.detach().sum(),
        "logps/rejected": pairs.rejected.log_probs.detach().sum(),
        "nll_loss": -pairs.chosen.log_probs.detach().sum(),
    }
    return LossOutput(compared.losses.sum(), len(pairs), metrics, {"nll_loss": pairs.num_tokens})


def sum_rewards(compared: Compared, chosen_lengths: Tensor, rejected_lengths: Tensor) -> dict[str, Tensor]:
    """What is worth knowing of any pairs, summed over them: rewards and lengths.

    Args:
        compared: the pairs.
        chosen_lengths: ``(pairs,)`` trained tokens of the chosen answers.
        rejected_lengths: ``(pairs,)`` those of the rejected ones.
    """
    rewards = (compared.chosen.detach(), compared.rejected.detach())
    margin = rewards[0] - rewards[1]
    return {
        "rewards/chosen": rewards[0].sum(),
        "rewards/rejected": rewards[1].sum(),
        "rewards/margins": margin.sum(),
        "rewards/accuracies": (margin > 0).sum(),
        "length/chosen": chosen_lengths.sum(),
        "length/rejected": rejected_lengths.sum(),
    }


def check_numbers(name: str, **values: float) -> None:
    """Check arguments that several objectives have.

    Args:
        name: of the objective.
        values: ``beta`` must be above 0; ``label_smoothing`` from 0 to below one half; weights,
            margins and exponents 0 or more.

    Raises:
        ConfigError: with the first that is out of its range.
    """
    for key, value in values.items():
        if key == "beta":
            fits, range_ = value > 0, "more than 0"
        elif key == "label_smoothing":
            fits, range_ = 0 <= value < 0.5, "0 or more and less than 0.5"
        else:
            fits, range_ = value >= 0, "0 or more"
        if not fits:
            raise ConfigError(f"objective.{key}: got {value}, expected {range_} ({name})")
