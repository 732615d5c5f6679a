"""Reward modeling: train a score head on preference pairs."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from xft.errors import ConfigError, did_you_mean
from xft.losses import bradley_terry, focal, l2_penalty, log_barrier
from xft.models.scoring import reward_scores
from xft.objectives.base import validate_hyperparameters
from xft.objectives.paired import PairedObjective, PairLosses, pair_indices, reward_metrics
from xft.registry import register
from xft.types import Batch, LossOutput
from xft.types.ranges import NonNegative, Real

LOSSES = ("bradley_terry", "focal")
PENALTIES = ("none", "log_barrier", "l2")


@register("objective", "reward")
@dataclass(frozen=True)
class Reward(PairedObjective):
    r"""Bradley-Terry or focal loss on the scores of chosen and rejected completions.

    The score :math:`s` of a completion is the output of the score head at the last token of its conversation.
    The loss of a pair is :math:`-\log\sigma(s_w - s_l - m)`, or that of :func:`~xft.losses.focal`, and
    ``penalty_weight`` times the penalties of both scores. Penalties keep scores near zero, because the loss
    depends on their difference only. The formulas and their papers are in :mod:`xft.losses.reward`.

    A score head predicts no tokens, so there is no NLL term. Metrics, means over pairs:
    ``rewards/chosen`` and ``rewards/rejected`` (the scores), ``rewards/margins``, ``rewards/accuracies``,
    ``length/chosen``, ``length/rejected``.

    Args:
        loss: ``bradley_terry`` or ``focal``.
        margin: target margin of ``bradley_terry``, the same for all pairs.
        gamma: exponent of ``focal``; larger values reduce the weight of pairs with a clear winner.
        penalty: ``log_barrier`` keeps scores between ``bounds``, ``l2`` near zero.
        penalty_weight: weight of the penalty.
        bounds: lower and upper bound of ``log_barrier``.
    """

    loss: Literal["bradley_terry", "focal"] = "bradley_terry"
    margin: NonNegative = 0.0
    gamma: NonNegative = 2.0
    penalty: Literal["none", "log_barrier", "l2"] = "none"
    penalty_weight: NonNegative = 0.01
    bounds: tuple[Real, Real] = (-5.0, 5.0)

    model_kind: ClassVar[str] = "reward_model"

    def __post_init__(self) -> None:
        for key, value, known in (("loss", self.loss, LOSSES), ("penalty", self.penalty, PENALTIES)):
            if value not in known:
                expected = f"one of {', '.join(known)}"
                fix = did_you_mean(value, known)
                raise ConfigError(key=f"objective.{key}", got=value, expected=expected, fix=fix)
        validate_hyperparameters(margin=self.margin, gamma=self.gamma, penalty_weight=self.penalty_weight)
        if self.margin and self.loss == "focal":
            raise ConfigError(
                key="objective.margin",
                got=self.margin,
                expected="0 with loss='focal', whose formula has no such term",
                fix="use loss='bradley_terry', or set margin=0",
            )
        if not self.bounds[0] < self.bounds[1]:
            raise ConfigError(
                key="objective.bounds", got=self.bounds, expected="a lower bound and a higher upper bound"
            )

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its pairs."""
        scores = reward_scores(model, batch)
        counts = batch.targets_per_sample
        lengths = torch.tensor(counts, device=scores.device, dtype=scores.dtype)
        chosen, rejected = pair_indices(counts, scores.device)
        result = self._pair_losses(scores[chosen], scores[rejected])
        metrics = reward_metrics(result, lengths[chosen], lengths[rejected])
        return LossOutput(result.losses.sum(), len(chosen), metrics)

    def _pair_losses(self, chosen: Tensor, rejected: Tensor) -> PairLosses:
        if self.loss == "focal":
            losses = focal(chosen, rejected, self.gamma)
        else:
            losses = bradley_terry(chosen, rejected, self.margin)
        if self.penalty != "none":
            losses = losses + self.penalty_weight * (self._penalize(chosen) + self._penalize(rejected))
        return PairLosses(losses, chosen, rejected)

    def _penalize(self, scores: Tensor) -> Tensor:
        return l2_penalty(scores) if self.penalty == "l2" else log_barrier(scores, *self.bounds)
