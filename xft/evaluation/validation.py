"""The loss on data that was not trained on."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from xft.data import Collator
from xft.data.batching.sampler import length_sorted_batches
from xft.evaluation.metrics import Tally
from xft.models import TrainingModel
from xft.types import Batch, Sample


def validation_batches(
    samples: Sequence[Sample],
    batch_size: int,
    collator: Collator,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """One rank's share of the validation split.

    Every rank yields the same number of batches, so that collectives stay matched: a rank that runs
    out of data yields a batch without targets.

    Args:
        samples: the split.
        batch_size: examples in a batch, which are of similar length.
        collator: lays the batches out.
        rank: of this process.
        world_size: how many ranks share the split.
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
        model: a :class:`TrainingModel`, or one wrapped.
        batches: this rank's share of the validation split.
        device: where the model is.
        reduce_sum: adds numbers up over all ranks.

    Returns:
        ``loss`` (mean over the objective's targets; NaN where there are none), ``target_tokens``, the
        means of the objective's metrics, and ``perplexity``, the exponential of the negative
        log-likelihood of a token: of the metric ``nll_loss`` where the objective has one, of the loss
        where its targets are tokens. Where it has neither there is no perplexity.
    """
    inner = getattr(model, "module", model)
    assert isinstance(inner, TrainingModel)
    training = inner.training
    inner.eval()
    tally = Tally()
    tokens = 0.0
    try:
        with torch.no_grad():
            for batch in batches:
                tally.add(inner(batch.to(device)))
                tokens += batch.num_targets
    finally:
        inner.train(training)
    (tokens,) = reduce_sum([tokens])
    found = tally.means(reduce_sum)
    targets = found.pop("targets")
    result = {"loss": math.nan, "target_tokens": tokens} | found
    likelihood = result.get("nll_loss", result["loss"] if targets == tokens else None)
    if likelihood is not None:
        result["perplexity"] = math.exp(min(likelihood, 700.0))
    return result
