"""ORPO: learn the chosen answer, and the odds against the rejected one, without a reference."""

from dataclasses import dataclass

from xft.losses import odds_ratio
from xft.objectives.paired import Compared, PairObjective, Pairs, check_numbers
from xft.registry import register


@register("objective", "orpo")
@dataclass(frozen=True)
class ORPO(PairObjective):
    r"""Learn the chosen answer, and the odds against the rejected one; no reference.

    Odds-ratio preference optimisation (Hong, Lee and Thorne 2024, https://arxiv.org/abs/2403.07691).

    The loss of a pair is :math:`-\frac{1}{|y_w|}\log\pi(y_w|x) - \beta\log\sigma(\log\mathrm{odds}_w -
    \log\mathrm{odds}_l)`, where :math:`\mathrm{odds} = p/(1-p)` and :math:`\log p` is the mean
    log-probability of an answer's tokens. The reward of an answer is :math:`\beta \log p`.

    Args:
        beta: weight of the odds ratio; the paper's lambda.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        check_numbers("orpo", beta=self.beta)

    def compare(self, pairs: Pairs) -> Compared:
        """Losses and rewards of pairs."""
        chosen, rejected = pairs.chosen.mean, pairs.rejected.mean
        losses = odds_ratio(chosen, rejected, self.beta) - chosen
        return Compared(losses, self.beta * chosen, self.beta * rejected)
