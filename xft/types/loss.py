"""Output of objectives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from xft.types.batch import Batch


@dataclass(slots=True)
class LossOutput:
    """Loss of one batch.

    Attributes:
        loss_sum: scalar, the loss summed (not averaged) over targets. A target is a token, a pair or a
            completion, depending on the objective.
        num_targets: number of summed targets, on the host.
        metrics: sums of further metrics, detached. Their names are the same for every batch.
        metric_denominators: number of things that each metric was summed over, by its name; ``num_targets`` for
            a metric without an entry.
        target_log_probs: ``(targets,)`` log-probabilities of the target tokens, detached, if the objective reuses them in
            later steps; else ``None``.
    """

    loss_sum: Tensor
    num_targets: int
    metrics: dict[str, Tensor] = field(default_factory=dict)
    metric_denominators: dict[str, float] = field(default_factory=dict)
    target_log_probs: Tensor | None = None


LossFunction = Callable[[Any, Batch], LossOutput]
"""Computes the loss of a batch from a model and the batch; objectives are loss functions."""
