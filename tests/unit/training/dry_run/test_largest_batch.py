"""Largest batches: searched among all micro-batches of a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_images import FakeProcessor
from helpers.plans import plan_of
from helpers.vision import FAMILIES, byte_tokenizer, write_image_rows

from xft.data import Collator, InstructionData, formats
from xft.templates import SOURCES, ChatTemplate
from xft.training.dry_run.largest_batch import (
    describe_costliest_image,
    evenly_spaced,
    find_largest_batches,
)


class Sizes:
    """A split with lengths and target counts only."""

    def __init__(self, lengths: list[int], targets: list[int]) -> None:
        self.lengths = np.array(lengths, np.int32)
        self.targets = np.array(targets, np.int32)


@pytest.mark.parametrize(("capacity", "padded"), [(None, False), (None, True), (60, False)])
def test_largest_batches_are_largest_of_whole_run(capacity: int | None, padded: bool) -> None:
    generator = np.random.default_rng(3)
    lengths = generator.integers(5, 50, 40).tolist()
    targets = [int(count) for count in generator.integers(1, 5, 40)]
    plan = plan_of(
        lengths, 30, micro_batch_size=3, gradient_accumulation_steps=2, pack_length=capacity, seed=5
    )
    samples: Any = Sizes(lengths, targets)
    largest = find_largest_batches(samples, plan, Collator(1, "padded", 0) if padded else Collator(1))
    # Alternative: every micro-batch that the loop will request.
    batches = [
        batch
        for step in range(plan.num_steps)
        for batch in plan.batches.micro_batches(*divmod(step, plan.batches.steps_per_epoch))
    ]

    def tokens(batch: list[int]) -> int:
        sizes = [lengths[example] for example in batch]
        return max(sizes) * len(sizes) if padded else sum(sizes)

    assert tokens(largest.by_tokens) == max(map(tokens, batches))
    assert sum(targets[example] for example in largest.by_targets) == max(
        sum(targets[example] for example in batch) for batch in batches
    )
    assert largest.num_epochs == -(-30 // plan.batches.steps_per_epoch)


def test_both_answers_of_a_pair_are_counted() -> None:
    # Two examples: 10 + 20 and 14 + 14 tokens; padded they take 2 x 20 and 2 x 14.
    samples: Any = Sizes([10, 20, 14, 14], [1, 1, 9, 9])
    plan = plan_of([30, 28], 2)
    for padded in (False, True):
        largest = find_largest_batches(samples, plan, Collator(2, "padded", 0) if padded else Collator(2))
        assert (largest.by_tokens, largest.by_targets) == ([0], [1])


def test_long_run_is_searched_partially(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xft.training.dry_run.largest_batch.MAX_EXAMPLES", 8)
    samples: Any = Sizes([3, 4, 5, 6], [1, 1, 1, 1])
    assert find_largest_batches(samples, plan_of([3, 4, 5, 6], 40), Collator()).num_epochs == 2


def test_evenly_spaced_includes_first_and_last() -> None:
    plan = plan_of(list(range(1, 21)), 20)
    chosen = [list(batch) for batch in evenly_spaced(plan, 4)]
    assert chosen[0] == list(plan.batches.epoch(0)[0])
    assert chosen[-1] == list(plan.batches.epoch(0)[-1])
    assert len(chosen) == 4
    assert len(list(evenly_spaced(plan_of([5], 1), 4))) == 1


def test_most_expensive_image_is_named(tmp_path: Path) -> None:
    rows = write_image_rows(tmp_path)
    data = InstructionData(str(rows), format=formats.openai, val_split=None, max_length=30_000)
    template = ChatTemplate(SOURCES["chatml"]).bind(tokenizer := byte_tokenizer(FAMILIES["llava"]))
    processor = FakeProcessor()
    samples = data.prepare(tokenizer, template, processor).train
    (line,) = describe_costliest_image(samples, Collator(processor=processor))
    image = max(
        (image for sample in samples for image in sample.images),
        key=lambda image: image.height * image.width,
    )
    assert image.path in line
    assert f"{image.height * image.width:,} tokens" in line
    assert f"{rows}:" in line
    assert describe_costliest_image(samples, Collator()) == []
