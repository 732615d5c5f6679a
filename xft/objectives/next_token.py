"""Predict the next token: instruction tuning and continued pretraining.

The two differ in their labels, which the data sets: answers only, or every token.
"""

from torch import nn

from xft.models import target_loss
from xft.registry import register
from xft.types import Batch, LossOutput


@register("objective", "sft", "pretrain")
def next_token(model: nn.Module, batch: Batch) -> LossOutput:
    """The negative log-likelihood of the trained tokens, summed.

    Metrics:
        accuracy: how many of them the model ranks first.
    """
    loss, correct, count = target_loss(model, batch)
    return LossOutput(loss, count, {"accuracy": correct})
