"""Predict the next token: instruction tuning and continued pretraining.

The two differ in their labels, which the data sets: answers only, or every token.
"""

from torch import nn

from xft.losses import cross_entropy_sum
from xft.models import target_logits
from xft.registry import register
from xft.types import Batch, LossOutput


@register("objective", "sft", "pretrain")
def next_token(model: nn.Module, batch: Batch) -> LossOutput:
    """The negative log-likelihood of the trained tokens, summed.

    Metrics:
        accuracy: how many of them the model ranks first.
    """
    logits, targets = target_logits(model, batch)
    correct = (logits.detach().argmax(dim=-1) == targets).sum() if len(targets) else targets.sum()
    return LossOutput(cross_entropy_sum(logits, targets), len(targets), {"accuracy": correct.detach()})
