"""Reward: teach a scalar head which of two answers is the better one."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from xft.errors import ConfigError, did_you_mean
from xft.losses import bradley_terry, focal, l2_penalty, log_barrier
from xft.models.scoring import reward_scores
from xft.objectives.paired import Compared, check_numbers, index_pairs, present_pairs, sum_rewards
from xft.registry import register
from xft.types import Batch, LossOutput

LOSSES = ("bradley_terry", "focal")
PENALTIES = ("none", "log_barrier", "l2")


@register("objective", "reward")
@dataclass(frozen=True)
class Reward:
    r"""Give the chosen answer a higher score than the rejected one (Bradley-Terry, or focal).

    The score :math:`s` of an answer is what the scalar head gives at the last token of its conversation.
    The loss of a pair is :math:`-\log\sigma(s_w - s_l - m)`, or that of :func:`~xft.losses.focal`, and
    ``penalty_weight`` times the penalties of both scores, which hold them near zero: the loss itself
    sees their difference alone. The formulas and their papers are in :mod:`xft.losses.reward`.

    There is no SFT term, for a scalar head gives no tokens. Metrics, means over pairs:
    ``rewards/chosen`` and ``rewards/rejected`` (the scores), ``rewards/margins``, ``rewards/accuracies``,
    ``length/chosen``, ``length/rejected``.

    Args:
        loss: ``bradley_terry`` or ``focal``.
        margin: of ``bradley_terry``: by how much the chosen answer shall win, the same for all pairs.
        gamma: of ``focal``: how much less pairs weigh that are told apart already.
        penalty: ``log_barrier`` keeps scores between ``bounds``, ``l2`` near zero.
        penalty_weight: of the penalty.
        bounds: of ``log_barrier``: the lower and the upper one.
    """

    loss: Literal["bradley_terry", "focal"] = "bradley_terry"
    margin: float = 0.0
    gamma: float = 2.0
    penalty: Literal["none", "log_barrier", "l2"] = "none"
    penalty_weight: float = 0.01
    bounds: tuple[float, float] = (-5.0, 5.0)

    learns_from: ClassVar[str] = "pairs"
    trains: ClassVar[str] = "reward_model"

    def __post_init__(self) -> None:
        for key, value, known in (("loss", self.loss, LOSSES), ("penalty", self.penalty, PENALTIES)):
            if value not in known:
                raise ConfigError(
                    f"objective.{key}: no {key} is called {value!r}; {did_you_mean(value, known)}"
                )
        check_numbers("reward", margin=self.margin, gamma=self.gamma, penalty_weight=self.penalty_weight)
        if self.margin and self.loss == "focal":
            raise ConfigError(
                f"objective.margin: got {self.margin} with loss='focal', which has no such term; use "
                "loss='bradley_terry', or set it to 0"
            )
        if not self.bounds[0] < self.bounds[1]:
            raise ConfigError(
                f"objective.bounds: got {self.bounds}, expected a lower and an upper one, in this order"
            )

    def count(self, batch: Batch) -> int:
        """How many pairs a batch has."""
        return len(present_pairs(batch.targets_per_sample))

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """The loss of a batch, summed over its pairs."""
        scores = reward_scores(model, batch)
        counts = batch.targets_per_sample
        lengths = torch.tensor(counts, device=scores.device, dtype=scores.dtype)
        chosen, rejected = index_pairs(counts, scores.device)
        compared = self._compare(scores[chosen], scores[rejected])
        metrics = sum_rewards(compared, lengths[chosen], lengths[rejected])
        return LossOutput(compared.losses.sum(), len(chosen), metrics)

    def _compare(self, chosen: Tensor, rejected: Tensor) -> Compared:
        if self.loss == "focal":
            losses = focal(chosen, rejected, self.gamma)
        else:
            losses = bradley_terry(chosen, rejected, self.margin)
        if self.penalty != "none":
            losses = losses + self.penalty_weight * (self._penalise(chosen) + self._penalise(rejected))
        return Compared(losses, chosen, rejected)

    def _penalise(self, scores: Tensor) -> Tensor:
        return l2_penalty(scores) if self.penalty == "l2" else log_barrier(scores, *self.bounds)
