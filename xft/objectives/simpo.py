"""SimPO: the mean log-probability as the reward, and a margin to win by."""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from xft.objectives.paired import Compared, PairObjective, Pairs, check_numbers
from xft.registry import register


@register("objective", "simpo")
@dataclass(frozen=True)
class SimPO(PairObjective):
    r"""Win by a margin of the mean log-probability; no reference.

    Simple preference optimisation (Meng, Xia and Chen 2024, https://arxiv.org/abs/2405.14734).

    The loss of a pair is :math:`-\log\sigma(\frac{\beta}{|y_w|}\log\pi(y_w|x) -
    \frac{\beta}{|y_l|}\log\pi(y_l|x) - \gamma)`; the two terms are the rewards.

    Args:
        beta: scales the mean log-probability of an answer's tokens, 2 to 10 in the paper.
        gamma: by how much the chosen answer shall win; its authors begin with half of beta.
        nll_weight: of the mean negative log-likelihood of the chosen answer, which is added.
    """

    beta: float = 2.0
    gamma: float = 1.0
    nll_weight: float = 0.0

    def __post_init__(self) -> None:
        check_numbers("simpo", beta=self.beta, gamma=self.gamma, nll_weight=self.nll_weight)

    def compare(self, pairs: Pairs) -> Compared:
        """Losses and rewards of pairs."""
        chosen, rejected = self.beta * pairs.chosen.mean, self.beta * pairs.rejected.mean
        losses = -logsigmoid(chosen - rejected - self.gamma) - self.nll_weight * pairs.chosen.mean
        return Compared(losses, chosen, rejected)
