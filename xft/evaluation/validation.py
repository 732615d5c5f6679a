"""Compute the loss on the validation split."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from xft.data import Collator
from xft.data.batching.sampler import length_sorted_batches
from xft.evaluation.metrics import MetricAccumulator
from xft.models import unwrap
from xft.types import Batch, Sample


def validation_batches(
    samples: Sequence[Sample],
    batch_size: int,
    collator: Collator,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of one rank.

    All ranks yield the same number of batches, so that collectives stay matched: a rank that runs out of data yields a
    dummy batch without targets.

    Args:
        samples: validation split.
        batch_size: examples per batch; a batch has examples of similar length.
        collator: builds the batches.
        rank: data-parallel rank of this process.
        world_size: number of data-parallel ranks.
    """
    size = collator.samples_per_example
    lengths = [len(sample) for sample in samples]
    example_lengths = [sum(lengths[start : start + size]) for start in range(0, len(lengths), size)]
    batches = length_sorted_batches(example_lengths, batch_size)
    for number in range(rank, -(-len(batches) // world_size) * world_size, world_size):
        yield collator.collate(samples, batches[number] if number < len(batches) else [])


def evaluate(
    model: torch.nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    reduce_sum: Callable[[Sequence[float]], list[float]] = list,
) -> dict[str, float]:
    """Evaluate a model on batches.

    Args:
        model: a :class:`~xft.models.TrainingModel`, possibly wrapped by a strategy.
        batches: batches of this rank.
        device: device of the model.
        reduce_sum: sums numbers over all ranks.

    Returns:
        ``loss`` (mean over the targets of the objective; NaN without targets), ``target_tokens``, the means of the
        objective's metrics, and ``perplexity``: the exponential of the metric ``nll_loss``, or of the loss if the targets
        are tokens. Without either there is no perplexity.
    """
    inner = unwrap(model)
    training = inner.training
    inner.eval()
    accumulator = MetricAccumulator()
    target_tokens = 0.0
    try:
        with torch.no_grad():
            for batch in batches:
                accumulator.add(inner(batch.to(device)))
                target_tokens += batch.num_targets
    finally:
        inner.train(training)
    (target_tokens,) = reduce_sum([target_tokens])
    means = accumulator.means(reduce_sum)
    targets = means.pop("targets")
    result = {"loss": math.nan, "target_tokens": target_tokens} | means
    nll = result.get("nll_loss", result["loss"] if targets == target_tokens else None)
    if nll is not None:
        result["perplexity"] = math.exp(min(nll, 700.0))
    return result
