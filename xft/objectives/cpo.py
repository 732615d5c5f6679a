"""CPO: contrastive preference optimization."""

from dataclasses import dataclass

from xft.losses import PAIR_LOSSES
from xft.objectives.base import validate_hyperparameters
from xft.objectives.paired import PairLogProbs, PairLosses, PairObjective
from xft.registry import register
from xft.types.ranges import LabelSmoothing, NonNegative, Positive


@register("objective", "cpo")
@dataclass(frozen=True)
class CPO(PairObjective):
    r"""DPO without a reference model, plus the negative log-likelihood of the chosen completion.

    Contrastive preference optimization (Xu et al. 2024, https://arxiv.org/abs/2401.08417).

    The loss of a pair is :math:`-\log\sigma(\beta\log\pi(y_w|x) - \beta\log\pi(y_l|x))`, plus
    ``cpo_alpha`` times the mean negative log-likelihood per token of the chosen completion. The rewards are
    :math:`\beta\log\pi(y|x)`.

    Args:
        beta: scale of the log-probability of a completion.
        label_smoothing: assumed fraction of pairs with swapped labels.
        cpo_alpha: weight of the negative log-likelihood.
    """

    beta: Positive = 0.1
    label_smoothing: LabelSmoothing = 0.0
    cpo_alpha: NonNegative = 1.0

    def __post_init__(self) -> None:
        validate_hyperparameters(
            beta=self.beta, label_smoothing=self.label_smoothing, cpo_alpha=self.cpo_alpha
        )

    def pair_losses(self, pairs: PairLogProbs) -> PairLosses:
        """Compute losses and rewards of pairs."""
        chosen, rejected = pairs.chosen.log_probs, pairs.rejected.log_probs
        losses = PAIR_LOSSES["sigmoid"](chosen, rejected, self.beta, self.label_smoothing)
        losses = losses - self.cpo_alpha * pairs.chosen.mean
        return PairLosses(losses, self.beta * chosen, self.beta * rejected)
