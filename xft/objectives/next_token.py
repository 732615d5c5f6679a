"""Next-token prediction: supervised fine-tuning and continued pretraining.

The two differ in the labels that the data set gives: answers only, or every token.
"""

from dataclasses import dataclass

from torch import nn

from xft.models import target_loss
from xft.objectives.base import Objective
from xft.registry import register
from xft.types import Batch, LossOutput


@register("objective", "sft", "pretrain")
@dataclass(frozen=True)
class NextToken(Objective):
    r"""Negative log-likelihood of the target tokens: :math:`-\sum_i \log\pi(t_i|t_{<i})`.

    The metric ``accuracy`` is the fraction of target tokens with the largest logit at the target.
    """

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its target tokens."""
        loss, num_correct, num_targets = target_loss(model, batch)
        return LossOutput(loss, num_targets, {"accuracy": num_correct})


next_token = NextToken()
