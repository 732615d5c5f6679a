"""The largest micro-batches of a run, among all those that it will take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xft.data import Collator, SampleView
from xft.run_config.plan import TrainingPlan

MOST_UNITS = 2_000_000
"""Of a longer run, the first epochs are looked through."""


@dataclass(frozen=True)
class Largest:
    """The largest micro-batches.

    Attributes:
        by_tokens: the examples of the one with the most tokens, padding included.
        by_targets: of the one with the most trained tokens: each of these reaches the head, whose
            output is as wide as the vocabulary.
        epochs: how many epochs were looked through.
    """

    by_tokens: list[int]
    by_targets: list[int]
    epochs: int


def largest(samples: SampleView, plan: TrainingPlan, collator: Collator) -> Largest:
    """Look through the micro-batches of a run.

    Args:
        samples: the training split.
        plan: of the run.
        collator: of the run.
    """
    lengths = samples.lengths.reshape(-1, collator.samples_per_example)
    targets = samples.targets.reshape(-1, collator.samples_per_example).sum(axis=1)
    batches = plan.batches
    wanted = -(-plan.num_steps // batches.steps_per_epoch)
    epochs = max(1, min(wanted, MOST_UNITS // len(lengths)))
    found = [each for epoch in range(epochs) for each in batches.epoch(epoch)]
    return Largest(
        by_tokens=max(
            found, key=lambda each: (_tokens(lengths[each], collator.is_padded), int(targets[each].sum()))
        ),
        by_targets=max(
            found, key=lambda each: (int(targets[each].sum()), _tokens(lengths[each], collator.is_padded))
        ),
        epochs=epochs,
    )


def _tokens(lengths: npt.NDArray[np.int32], padded: bool) -> int:
    return int(lengths.max()) * lengths.size if padded else int(lengths.sum())


def spread(plan: TrainingPlan, count: int) -> Iterator[Sequence[int]]:
    """Some micro-batches of the first epoch, evenly spread."""
    batches = plan.batches.epoch(0)
    for at in np.unique(np.linspace(0, len(batches) - 1, count).round().astype(int)):
        yield batches[at]
