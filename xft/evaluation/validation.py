"""The loss on data that was not trained on."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from xft.data.collate import lay_out
from xft.data.sampler import in_order
from xft.evaluation.metrics import Tally
from xft.models import TrainingModel
from xft.types import Batch, Sample


def validation_batches(
    samples: Sequence[Sample],
    batch_size: int,
    unit: int = 1,
    pad_token_id: int | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """One rank's share of the validation split, in the units of its data.

    All ranks get equally many batches: one that nothing is left for gets a batch without targets,
    for it must keep in step with the others.

    Args:
        samples: the split.
        batch_size: units at once; neighbours in length stand together.
        unit: how many neighbouring samples belong together.
        pad_token_id: as in ``lay_out``.
        rank: of this process.
        world_size: how many ranks share the split.
    """
    lengths = [len(each) for each in samples]
    sizes = [sum(lengths[start : start + unit]) for start in range(0, len(lengths), unit)]
    batches = in_order(sizes, batch_size)
    for number in range(rank, -(-len(batches) // world_size) * world_size, world_size):
        units = batches[number] if number < len(batches) else []
        yield lay_out(samples, units, unit, pad_token_id)


def evaluate(
    model: torch.nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    reduce_sum: Callable[[Sequence[float]], list[float]] = list,
) -> dict[str, float]:
    """Evaluate a model on batches.

    Args:
        model: a :class:`TrainingModel`, or one wrapped.
        batches: this rank's share of the validation split, laid out in the units of its data.
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
