"""The loss on data that was not trained on."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch

from xft.models import TrainingModel
from xft.types import Batch


def evaluate(
    model: torch.nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    reduce_sum: Callable[[Sequence[float]], list[float]] = list,
) -> dict[str, float]:
    """Evaluate a model on batches.

    Args:
        model: a :class:`TrainingModel`, or one wrapped.
        batches: this rank's share of the validation split.
        device: where the model is.
        reduce_sum: adds numbers up over all ranks.

    Returns:
        ``loss`` (mean over trained tokens, in nats), ``perplexity`` (its exponential),
        ``accuracy`` (share of tokens that the model ranks first, where the objective counts
        them) and ``target_tokens``.
    """
    inner = getattr(model, "module", model)
    assert isinstance(inner, TrainingModel)
    training = inner.training
    inner.eval()
    loss = targets = correct = 0.0
    counted = False
    try:
        with torch.inference_mode():
            for batch in batches:
                output = inner(batch.to(device))
                loss += float(output.loss_sum)
                targets += output.num_targets
                if "correct" in output.metrics:
                    counted = True
                    correct += float(output.metrics["correct"])
    finally:
        inner.train(training)
    loss, targets, correct = reduce_sum([loss, targets, correct])
    mean = loss / targets if targets else math.nan
    result = {"loss": mean, "perplexity": math.exp(min(mean, 700.0)), "target_tokens": targets}
    if counted:
        result["accuracy"] = correct / targets
    return result
