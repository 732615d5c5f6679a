from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.plans import plan_of
from helpers.preferences import pair_samples
from helpers.strategies import FakeStrategy
from helpers.token_stores import write_store
from torch import nn

from xft.data import DataReport, InstructionData, PreparedData, SampleView
from xft.models import CausalLMConfig
from xft.run_config.config import RunConfig
from xft.training.dry_run.estimate import ResourceEstimate, format_estimate
from xft.training.dry_run.profile import DiskUsage, PhaseStats, ResourceProfiler
from xft.training.hooks.base import HookCost

GB = 10**9


@pytest.fixture
def make_estimate(tmp_path: Path) -> Callable[..., ResourceEstimate]:
    """An estimate of 8 steps of 2 epochs with 1,000 tokens each, on a device with 10 GB."""

    def make(peak_bytes: int = 4 * GB, world_size: int = 1, searched_epochs: int = 2) -> ResourceEstimate:
        profiler = ResourceProfiler(torch.device("cpu"), lambda phase: [])
        profiler.phases = [
            PhaseStats("model", "", 3.0, GB),
            PhaseStats("forward", "64 tokens", 1.0, peak_bytes),
            PhaseStats("optimizer", "", 0.5, 2 * GB),
            PhaseStats("throughput", "", 9.0, 9 * GB // 10),
            PhaseStats("a hook", "its own phase", 2.0, GB),
        ]
        samples = SampleView(
            [(write_store(tmp_path, [[sample] for sample in pair_samples()]), np.arange(8))]
        )
        report = DataReport(splits={"train": {"tokens": 1000, "target_share": 0.25}})
        data = InstructionData("rows.jsonl", format=len)  # type: ignore[arg-type]
        return ResourceEstimate(
            profiler,
            plan_of([5] * 8, 8, micro_batch_size=2),
            PreparedData(samples, samples, report),
            RunConfig(CausalLMConfig("x"), data),
            world_size,
            10 * GB,
            searched_epochs=searched_epochs,
            seconds_per_token=0.01,
        )

    return make


def _line(lines: list[str], start: str) -> str:
    [line] = [line for line in lines if line.startswith(start)]
    return line


def test_time_adds_tokens_steps_hooks_and_setup(make_estimate: Callable[..., ResourceEstimate]) -> None:
    estimate = make_estimate()
    assert estimate.num_tokens == 2000
    estimate.hook_costs = [HookCost("5 validations", 60.0), HookCost("free", 0.0)]
    # 2000 tokens x 0.01 s + 8 steps x 0.5 s, 60 s of hooks, 3 s to load the model.
    line = _line(format_estimate(estimate), "time")
    assert "about 1m27s" in line
    assert "8 steps 24s" in line
    assert "5 validations 1m00s" in line
    assert "free" not in line


def test_speed_counts_all_ranks_and_target_tokens(make_estimate: Callable[..., ResourceEstimate]) -> None:
    assert "100 tok/s (25 target tok/s)" in _line(format_estimate(make_estimate()), "speed")
    line = _line(format_estimate(make_estimate(world_size=4)), "speed")
    assert "400 tok/s on 4 ranks (100 target tok/s)" in line


@pytest.mark.parametrize(("peak_bytes", "fits"), [(9 * GB, True), (95 * GB // 10, False), (11 * GB, False)])
def test_low_headroom_is_a_warning_with_suggestions_for_the_peak_phase(
    peak_bytes: int, fits: bool, make_estimate: Callable[..., ResourceEstimate]
) -> None:
    lines = format_estimate(make_estimate(peak_bytes))
    assert any(line.startswith("warning") for line in lines) is not fits
    assert any("training.micro_batch_size=1" in line for line in lines) is not fits
    assert not any("-" in line for line in lines if line.startswith("warning") and "only" not in line)


def test_table_lists_phases_in_order_without_the_speed_measurement(
    make_estimate: Callable[..., ResourceEstimate],
) -> None:
    names = [line[:21].strip() for line in format_estimate(make_estimate())[2:6]]
    assert names == ["load the model", "forward", "optimizer step", "a hook"]


def test_disk_counts_best_checkpoint_and_final_model(
    make_estimate: Callable[..., ResourceEstimate],
) -> None:
    estimate = make_estimate()
    estimate.profiler.disk = DiskUsage(2 * GB, GB, 50 * GB, save_total_limit=2, keeps_best=True)
    line = _line(format_estimate(estimate), "disk")
    assert "up to 7" in line
    assert "2 + best checkpoints" in line


@pytest.mark.parametrize(("searched", "partial"), [(2, False), (1, True)])
def test_conclusion_says_if_only_some_epochs_were_searched(
    searched: int, partial: bool, make_estimate: Callable[..., ResourceEstimate]
) -> None:
    last = format_estimate(make_estimate(searched_epochs=searched))[-1]
    assert ("first 1 epochs" in last) is partial


def test_measure_state_counts_parameters_gradients_and_optimizer_state(
    make_estimate: Callable[..., ResourceEstimate],
) -> None:
    model = nn.Linear(10, 10)
    model.bias.requires_grad_(False)
    strategy = FakeStrategy()
    strategy.optimizer = torch.optim.AdamW([model.weight], lr=0.1)

    def run_steps() -> None:
        model(torch.ones(1, 10)).sum().backward()
        strategy.optimizer.step()

    estimate = make_estimate()
    estimate.measure_state(model, run_steps, strategy)
    assert (estimate.param_bytes, estimate.grad_bytes) == (440, 400)
    assert estimate.optimizer_bytes == 2 * 400 + 4  # two moments, and the number of steps
