"""SimPO: simple preference optimization."""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from xft.objectives.base import validate_hyperparameters
from xft.objectives.paired import PairLogProbs, PairLosses, PairObjective
from xft.registry import register
from xft.types.ranges import NonNegative, Positive


@register("objective", "simpo")
@dataclass(frozen=True)
class SimPO(PairObjective):
    r"""Bradley-Terry loss on mean log-probabilities with a target margin; no reference model.

    Simple preference optimization (Meng, Xia and Chen 2024, https://arxiv.org/abs/2405.14734).

    The loss of a pair is :math:`-\log\sigma(\frac{\beta}{|y_w|}\log\pi(y_w|x) -
    \frac{\beta}{|y_l|}\log\pi(y_l|x) - \gamma)`; the two terms are the rewards.

    Args:
        beta: scale of the mean log-probability per token, 2 to 10 in the paper.
        gamma: target reward margin; the paper starts from half of beta.
        nll_weight: weight of the mean negative log-likelihood per token of the chosen completion.
    """

    beta: Positive = 2.0
    gamma: NonNegative = 1.0
    nll_weight: NonNegative = 0.0

    def __post_init__(self) -> None:
        validate_hyperparameters(beta=self.beta, gamma=self.gamma, nll_weight=self.nll_weight)

    def pair_losses(self, pairs: PairLogProbs) -> PairLosses:
        """Compute losses and rewards of pairs."""
        chosen, rejected = self.beta * pairs.chosen.mean, self.beta * pairs.rejected.mean
        losses = -logsigmoid(chosen - rejected - self.gamma) - self.nll_weight * pairs.chosen.mean
        return PairLosses(losses, chosen, rejected)
