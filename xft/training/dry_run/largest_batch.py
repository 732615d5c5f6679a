"""Find the largest micro-batches of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xft.data import Collator, SampleView
from xft.run_config.plan import TrainingPlan

MAX_EXAMPLES = 2_000_000
"""Number of examples to look at; the later epochs of a longer run are skipped."""


@dataclass(frozen=True)
class LargestBatches:
    """The largest micro-batches of a run.

    Attributes:
        by_tokens: example indices of the micro-batch with the most tokens, padding included.
        by_targets: example indices of the micro-batch with the most target tokens. The logits of each
            target token are as wide as the vocabulary.
        num_epochs: number of epochs that were searched.
    """

    by_tokens: list[int]
    by_targets: list[int]
    num_epochs: int


def find_largest_batches(samples: SampleView, plan: TrainingPlan, collator: Collator) -> LargestBatches:
    """Search the micro-batches of a run for the largest ones.

    Args:
        samples: training split.
        plan: plan of the run.
        collator: collator of the run.
    """
    lengths = samples.lengths.reshape(-1, collator.samples_per_example)
    targets = samples.targets.reshape(-1, collator.samples_per_example).sum(axis=1)
    sampler = plan.batches
    run_epochs = -(-plan.num_steps // sampler.steps_per_epoch)
    num_epochs = max(1, min(run_epochs, MAX_EXAMPLES // len(lengths)))
    batches = [batch for epoch in range(num_epochs) for batch in sampler.epoch(epoch)]

    def tokens_of(batch: Sequence[int]) -> int:
        return _count_tokens(lengths[batch], collator.is_padded)

    def targets_of(batch: Sequence[int]) -> int:
        return int(targets[batch].sum())

    return LargestBatches(
        by_tokens=max(batches, key=lambda batch: (tokens_of(batch), targets_of(batch))),
        by_targets=max(batches, key=lambda batch: (targets_of(batch), tokens_of(batch))),
        num_epochs=num_epochs,
    )


def describe_costliest_image(samples: SampleView, collator: Collator) -> list[str]:
    """Return a line about the image with most tokens; nothing for data without images."""
    processor = collator.processor
    costliest = None if processor is None else samples.costliest_image(processor.count_tokens)
    if processor is None or costliest is None:
        return []
    index, image = costliest
    name = image.path or f"an image of {len(image.data):,} bytes"
    count = processor.count_tokens(image.size)
    return [
        f"dry run: most expensive image: {name} ({samples.origin(index)}): {image.width}x{image.height} pixels, "
        f"{count:,} tokens of the {len(samples[index]):,} of its sample"
    ]


def _count_tokens(lengths: npt.NDArray[np.int32], padded: bool) -> int:
    return int(lengths.max()) * lengths.size if padded else int(lengths.sum())


def evenly_spaced(plan: TrainingPlan, count: int) -> Iterator[Sequence[int]]:
    """Yield ``count`` evenly spaced micro-batches of the first epoch."""
    batches = plan.batches.epoch(0)
    for index in np.unique(np.linspace(0, len(batches) - 1, count).round().astype(int)):
        yield batches[index]
