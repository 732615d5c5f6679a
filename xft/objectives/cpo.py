"""CPO: DPO without a reference, held to the chosen answer by its likelihood."""

from dataclasses import dataclass

from xft.losses import PAIR_LOSSES
from xft.objectives.paired import Compared, PairObjective, Pairs, check_numbers
from xft.registry import register


@register("objective", "cpo")
@dataclass(frozen=True)
class CPO(PairObjective):
    r"""DPO without a reference, and the likelihood of the chosen answer.

    Contrastive preference optimisation (Xu et al. 2024, https://arxiv.org/abs/2401.08417).

    The loss of a pair is :math:`-\log\sigma(\beta\log\pi(y_w|x) - \beta\log\pi(y_l|x))`, and the mean
    negative log-likelihood of the chosen answer's tokens. The two terms inside are the rewards.

    Args:
        beta: scales the log-probability of an answer.
        label_smoothing: the share of the pairs that is taken to be the wrong way round.
        cpo_alpha: of the negative log-likelihood.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    cpo_alpha: float = 1.0

    def __post_init__(self) -> None:
        check_numbers("cpo", beta=self.beta, label_smoothing=self.label_smoothing, cpo_alpha=self.cpo_alpha)

    def compare(self, pairs: Pairs) -> Compared:
        """Losses and rewards of pairs."""
        chosen, rejected = pairs.chosen.log_probs, pairs.rejected.log_probs
        losses = PAIR_LOSSES["sigmoid"](chosen, rejected, self.beta, self.label_smoothing)
        losses = losses - self.cpo_alpha * pairs.chosen.mean
        return Compared(losses, self.beta * chosen, self.beta * rejected)
