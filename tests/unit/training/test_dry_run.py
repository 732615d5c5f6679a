"""Rehearsals: the largest batch, what a full memory says, and what may be changed."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xft.config import build, check, load_config, parse_overrides
from xft.data import Collator, EpochBatchSampler
from xft.errors import ModelError, TrainingError
from xft.run_config.config import Recipe
from xft.run_config.plan import TrainingPlan
from xft.training.dry_run import profile as module
from xft.training.dry_run.largest_batch import largest, spread
from xft.training.dry_run.profile import Meter, is_full, size_of
from xft.training.dry_run.run import scratch
from xft.training.dry_run.suggestions import advice
from xft.training.signals import Stopped

ROOT = Path(__file__).resolve().parents[3]
LEAVES = sorted((ROOT / "configs").glob("*.py"))
CPU = torch.device("cpu")


class Sizes:
    """A split of which only the sizes are wanted."""

    def __init__(self, lengths: list[int], targets: list[int]) -> None:
        self.lengths = np.array(lengths, np.int32)
        self.targets = np.array(targets, np.int32)


def plan_of(lengths: list[int], steps: int, **options: Any) -> TrainingPlan:
    return TrainingPlan(EpochBatchSampler(tuple(lengths), **options), steps, (), "")


@pytest.mark.parametrize(("capacity", "padded"), [(None, False), (None, True), (60, False)])
def test_the_largest_batch_is_the_largest_of_all_that_the_run_takes(
    capacity: int | None, padded: bool
) -> None:
    generator = np.random.default_rng(3)
    lengths = generator.integers(5, 50, 40).tolist()
    targets = [int(each) for each in generator.integers(1, 5, 40)]
    plan = plan_of(
        lengths, 30, micro_batch_size=3, gradient_accumulation_steps=2, pack_length=capacity, seed=5
    )
    samples: Any = Sizes(lengths, targets)
    found = largest(samples, plan, Collator(1, "padded", 0) if padded else Collator(1))
    # A second way: every window that the loop will ask for.
    taken = [
        each
        for step in range(plan.num_steps)
        for each in plan.batches.micro_batches(*divmod(step, plan.batches.steps_per_epoch))
    ]

    def tokens(batch: list[int]) -> int:
        sizes = [lengths[each] for each in batch]
        return max(sizes) * len(sizes) if padded else sum(sizes)

    assert tokens(found.by_tokens) == max(map(tokens, taken))
    assert sum(targets[each] for each in found.by_targets) == max(
        sum(targets[each] for each in batch) for batch in taken
    )
    assert found.epochs == -(-30 // plan.batches.steps_per_epoch)


def test_pairs_count_both_of_their_answers() -> None:
    # Two units: 10 + 20 and 14 + 14 tokens; padded they take 2 x 20 and 2 x 14.
    samples: Any = Sizes([10, 20, 14, 14], [1, 1, 9, 9])
    plan = plan_of([30, 28], 2)
    for padded in (False, True):
        found = largest(samples, plan, Collator(2, "padded", 0) if padded else Collator(2))
        assert (found.by_tokens, found.by_targets) == ([0], [1])


def test_a_long_run_is_looked_through_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xft.training.dry_run.largest_batch.MOST_UNITS", 8)
    samples: Any = Sizes([3, 4, 5, 6], [1, 1, 1, 1])
    assert largest(samples, plan_of([3, 4, 5, 6], 40), Collator()).epochs == 2


def test_what_is_timed_is_spread_over_an_epoch() -> None:
    plan = plan_of(list(range(1, 21)), 20)
    chosen = [list(each) for each in spread(plan, 4)]
    assert chosen[0] == list(plan.batches.epoch(0)[0])
    assert chosen[-1] == list(plan.batches.epoch(0)[-1])
    assert len(chosen) == 4
    assert len(list(spread(plan_of([5], 1), 4))) == 1


def test_the_peak_is_that_of_the_part() -> None:
    meter = Meter(CPU, lambda kind: [])
    with meter.part("forward", "small"):
        pass
    with meter.part("backward", "a block of 300 MB"):
        block = torch.ones(75_000_000)
        del block
    with meter.part("optimizer", "small again"):
        pass
    small, large, after = (each.peak for each in meter.parts)
    assert large - small == pytest.approx(300e6, rel=0.1)
    if module.system.reset_peak_rss():
        assert after < large - 200e6
    assert meter.peak.kind == "backward"


def test_a_full_memory_names_the_part_and_what_to_change() -> None:
    meter = Meter(CPU, lambda kind: [f"change {kind}"])
    with pytest.raises(
        TrainingError, match=r"full in the part 'forward' \(64 rows\)[^\n]*\n  change forward"
    ):
        with meter.part("forward", "64 rows"):
            torch.empty(10**15)  # the allocator's own error
    with pytest.raises(TrainingError, match="'backward'"), meter.part("forward", "64 rows"):
        full_after_the_forward_pass(meter)
    with pytest.raises(TrainingError, match="'model'"), meter.part("model", "big"):
        full_while_loading()


def full_after_the_forward_pass(meter: Meter) -> None:
    meter.end("64 rows", then="backward")
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def full_while_loading() -> None:
    try:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    except RuntimeError as error:
        raise ModelError("cannot load 'big'") from error


@pytest.mark.parametrize("error", [ModelError("no folder"), RuntimeError("shapes differ"), ValueError("x")])
def test_any_other_error_stays_what_it_is(error: Exception) -> None:
    assert not is_full(error)
    with pytest.raises(type(error)), Meter(CPU, lambda kind: []).part("model", ""):
        raise error


def test_shared_memory_is_counted_once() -> None:
    weight = torch.zeros(100)
    assert size_of(iter([weight, weight.view(10, 10), torch.zeros(50)])) == 600


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda file: file.stem)
def test_every_advice_can_be_typed_as_it_stands(leaf: Path) -> None:
    recipe = build(load_config(leaf), Recipe)
    plan = plan_of([5] * 64, 8, micro_batch_size=6, gradient_accumulation_steps=2)
    kinds = ("model", "start", "forward", "backward", "optimizer", "validation", "generation", "checkpoint")
    typed = 0
    for kind in kinds:
        lines = advice(kind, recipe, plan)
        assert lines
        for line in lines:
            options = [each.rstrip(",") for each in line.partition("  (")[0].split() if "=" in each]
            if not options or "…" in line:
                continue
            config = load_config(leaf, parse_overrides(options))
            check(config, Recipe, str(leaf))
            if not any(each.startswith("optimizer.type=") for each in options):  # needs a GPU
                build(config, Recipe)
            typed += 1
    assert typed >= 4


def test_smaller_portions_make_the_same_step() -> None:
    recipe = build(load_config(LEAVES[0]), Recipe)
    for size, accumulation in ((6, 2), (5, 3)):
        [first, *_] = advice(
            "forward",
            recipe,
            plan_of([5] * 64, 8, micro_batch_size=size, gradient_accumulation_steps=accumulation),
        )
        values = parse_overrides(first.partition("  (")[0].split())
        assert values["training.micro_batch_size"] < size
        assert (
            values["training.micro_batch_size"] * values["training.gradient_accumulation_steps"]
            == size * accumulation
        )


def test_scratch_is_gone_and_makes_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch(tmp_path / "runs" / "a", 0) as folder:
        fail_in(folder, tmp_path)
    assert list(tmp_path.iterdir()) == []


def fail_in(folder: Path, parent: Path) -> None:
    assert folder.parent == parent
    (folder / "checkpoints").mkdir()
    raise ZeroDivisionError


def test_a_rehearsal_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as caught, scratch(tmp_path / "run", 0):
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_system_without_resettable_peaks_gives_upper_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.system, "reset_peak_rss", lambda: False)
    meter = Meter(CPU, lambda kind: [])
    for kind in ("forward", "backward"):
        with meter.part(kind, ""):
            torch.ones(1000)
    assert meter.parts[1].peak >= meter.parts[0].peak > 0
