from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.preferences import sample
from helpers.token_stores import write_store

from xft.data import SampleView
from xft.run_config.config import TrainingConfig
from xft.run_config.plan import TrainingPlan, make_plan


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    """Make a plan of samples of given lengths."""

    def make(
        lengths: Sequence[int], max_length: int = 64, packing: bool = False, seed: int = 0, **options: Any
    ) -> TrainingPlan:
        split = {name: options.pop(name) for name in list(options) if name in _SPLIT}
        rows = [[sample([1], [2 + index] * (length - 1))] for index, length in enumerate(lengths)]
        store = write_store(tmp_path / str(len(list(tmp_path.iterdir()))), rows)
        samples = SampleView([(store, np.arange(len(rows)))])
        return make_plan(samples, TrainingConfig(**options), max_length, packing, seed, **split)

    return make


_SPLIT = ("world_size", "samples_per_example", "padded", "num_iterations")


@pytest.mark.parametrize(
    ("rows", "options", "num_steps"),
    [
        (16, {"epochs": 2}, 32),
        (16, {"epochs": 0.3}, 5),
        (16, {"epochs": 0.001}, 1),
        (16, {"epochs": 1, "micro_batch_size": 2, "gradient_accumulation_steps": 2}, 4),
        (17, {"epochs": 1, "micro_batch_size": 2, "gradient_accumulation_steps": 2}, 5),
        (16, {"epochs": 1, "world_size": 4}, 4),
        (
            17,
            {"epochs": 1, "micro_batch_size": 2, "gradient_accumulation_steps": 2, "num_iterations": 3},
            15,
        ),
        (16, {"epochs": 1, "samples_per_example": 2}, 8),
        (16, {"max_steps": 3}, 3),
        (16, {"max_steps": 99}, 99),
    ],
)
def test_num_steps_follows_from_rows_and_batch_sizes(
    plan: Any, rows: int, options: dict[str, Any], num_steps: int
) -> None:
    made = plan([5] * rows, **options)
    assert made.num_steps == num_steps
    assert made.notes == ()


def test_few_rows_shrink_accumulation_then_micro_batch_then_packed_length(plan: Any) -> None:
    options = {"micro_batch_size": 2, "gradient_accumulation_steps": 4}
    shapes = []
    for least in (0, 4, 8, 16, 99):
        made = plan([8] * 32, max_length=32, packing=True, min_steps_per_epoch=least, **options)
        batches = made.batches
        shapes.append((batches.gradient_accumulation_steps, batches.micro_batch_size, batches.pack_length))
        assert bool(made.notes) is (least > 0)
    # No row holds less than the longest sample.
    assert shapes == [(4, 2, 32), (1, 2, 32), (1, 1, 32), (1, 1, 16), (1, 1, 8)]


def test_every_sample_is_planned_once_per_epoch(plan: Any) -> None:
    made = plan(list(range(3, 40)), packing=True, epochs=1, micro_batch_size=2)
    batches = [batch for step in range(made.num_steps) for batch in made.batches.micro_batches(0, step)]
    assert sorted(index for batch in batches for index in batch) == list(range(37))


def test_fingerprint_changes_with_data_order_and_step_but_not_with_ranks(plan: Any) -> None:
    base = {"gradient_accumulation_steps": 4, "min_steps_per_epoch": 0}
    plans = [
        plan([5] * 16, **base),
        plan([5] * 15 + [6], **base),
        plan([5] * 16, seed=1, **base),
        plan([5] * 16, micro_batch_size=2, **base),
        plan([5] * 16, gradient_accumulation_steps=2, min_steps_per_epoch=0),
        plan([5] * 16, packing=True, **base),
        plan([5] * 16, padded=True, **base),
    ]
    fingerprints = [made.fingerprint() for made in plans]
    assert len(set(fingerprints)) == len(fingerprints)
    two_ranks = plan([5] * 16, world_size=2, gradient_accumulation_steps=2, min_steps_per_epoch=0)
    assert two_ranks.fingerprint() == fingerprints[0]
    longer = plan([5] * 16, epochs=9, max_grad_norm=None, **base)
    assert longer.fingerprint() == fingerprints[0]


def test_batching_and_its_state_count_micro_batches_of_one_and_of_all_ranks(plan: Any) -> None:
    made = plan(
        [5] * 64, world_size=2, micro_batch_size=2, gradient_accumulation_steps=3, max_grad_norm=0.5
    )
    assert made.batching_state() == {"capacity": None, "batch_size": 2, "window": 6, "world_size": 2}
    batching = made.batching
    assert (batching.micro_batch_size, batching.gradient_accumulation_steps) == (2, 3)
    assert (batching.num_steps, batching.max_grad_norm) == (made.num_steps, 0.5)
