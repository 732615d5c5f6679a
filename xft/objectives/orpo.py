"""ORPO: odds-ratio preference optimization."""

from dataclasses import dataclass

from xft.losses import odds_ratio
from xft.objectives.base import validate_hyperparameters
from xft.objectives.paired import PairLogProbs, PairLosses, PairObjective
from xft.registry import register
from xft.types.ranges import Positive


@register("objective", "orpo")
@dataclass(frozen=True)
class ORPO(PairObjective):
    r"""Negative log-likelihood of the chosen completion plus an odds-ratio loss; no reference model.

    Odds-ratio preference optimization (Hong, Lee and Thorne 2024, https://arxiv.org/abs/2403.07691).

    The loss of a pair is :math:`-\frac{1}{|y_w|}\log\pi(y_w|x) - \beta\log\sigma(\log\mathrm{odds}_w -
    \log\mathrm{odds}_l)`, where :math:`\mathrm{odds} = p/(1-p)` and :math:`\log p` is the mean
    log-probability per token of a completion. Its reward is :math:`\beta \log p`.

    Args:
        beta: weight of the odds-ratio loss, lambda in the paper.
    """

    beta: Positive = 0.1

    def __post_init__(self) -> None:
        validate_hyperparameters(beta=self.beta)

    def pair_losses(self, pairs: PairLogProbs) -> PairLosses:
        """Compute losses and rewards of pairs."""
        chosen, rejected = pairs.chosen.mean, pairs.rejected.mean
        losses = odds_ratio(chosen, rejected, self.beta) - chosen
        return PairLosses(losses, self.beta * chosen, self.beta * rejected)
