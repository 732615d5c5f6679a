"""Estimate the resources of a run from the measurements of its dry run."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from xft.data import PreparedData
from xft.run_config.config import RunConfig
from xft.run_config.plan import TrainingPlan
from xft.strategies import Strategy
from xft.training.dry_run.profile import ResourceProfiler, total_bytes
from xft.training.dry_run.suggestions import suggest_less_memory
from xft.training.hooks.base import HookCost
from xft.utils.console import format_bytes, format_duration

LOW_HEADROOM = 0.08
"""Fraction of memory. With less headroom, fragmentation or another program may end the run."""
_LABELS = {
    "model": "load the model",
    "setup": "optimizer, objective",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer step",
    "rollout": "sample completions",
    "validation": "validation batch",
    "generation": "sample questions",
    "general": "general questions",
    "checkpoint": "checkpoint",
}
_HIDDEN = {"throughput"}
"""Phases that are measured only for the speed."""


@dataclass
class ResourceEstimate:
    """Measurements of a dry run, and the numbers that they are multiplied by.

    Attributes:
        profiler: measured phases.
        plan: plan of the run.
        prepared: prepared data.
        run_config: config of the run.
        world_size: number of data-parallel ranks.
        memory_bytes: memory that the run may use in total.
        param_bytes, grad_bytes, optimizer_bytes: sizes of parameters, gradients and optimizer state.
        searched_epochs: number of epochs that were searched for the largest batch.
        tokens_per_step: training tokens of a step on all ranks; ``None`` derives them from the data.
        seconds_per_token: forward and backward time of a typical batch, per token and rank.
        hook_costs: estimated time of hooks in the whole run.
    """

    profiler: ResourceProfiler
    plan: TrainingPlan
    prepared: PreparedData
    run_config: RunConfig
    world_size: int
    memory_bytes: int
    param_bytes: int = 0
    grad_bytes: int = 0
    optimizer_bytes: int = 0
    searched_epochs: int = 0
    tokens_per_step: float | None = None
    seconds_per_token: float = 0.0
    hook_costs: list[HookCost] = field(default_factory=list)

    def measure_state(self, model: nn.Module, run_steps: Callable[[], None], strategy: Strategy) -> None:
        """Run steps, and measure the memory that persists between steps."""
        self.param_bytes = total_bytes(model.parameters())
        self.grad_bytes = total_bytes(param for param in model.parameters() if param.requires_grad)
        run_steps()
        values = (value for state in strategy.optimizer.state.values() for value in state.values())
        self.optimizer_bytes = total_bytes(value for value in values if isinstance(value, Tensor))

    @property
    def num_tokens(self) -> float:
        """Number of training tokens of the whole run, on all ranks."""
        if self.tokens_per_step is not None:
            return self.tokens_per_step * self.plan.num_steps
        epochs = self.plan.num_steps / self.plan.batches.steps_per_epoch
        return float(self.prepared.report.splits["train"]["tokens"] * epochs)


def format_estimate(estimate: ResourceEstimate) -> list[str]:
    """Format an estimate for the terminal: a table of phases, then memory, speed, time and disk."""
    return [
        *_table(estimate.profiler),
        "",
        *_memory(estimate),
        _speed(estimate),
        _time(estimate),
        *_disk(estimate.profiler),
        "",
        _conclusion(estimate),
    ]


def _table(profiler: ResourceProfiler) -> list[str]:
    memory = "GPU memory" if profiler.on_gpu else "memory"
    lines = ["", f"{'phase':<21}{'time':>9}{memory:>12}   processed"]
    measured = dict.fromkeys(stats.phase for stats in profiler.phases)
    for name in dict.fromkeys([*(name for name in _LABELS if name in measured), *measured]):
        if name in _HIDDEN:
            continue
        phases = [stats for stats in profiler.phases if stats.phase == name]
        last, peak = phases[-1], format_bytes(max(stats.peak_bytes for stats in phases))
        lines.append(f"{_LABELS.get(name, name):<21}{last.seconds:>8.2f}s{peak:>12}   {last.description}")
    return lines


def _memory(estimate: ResourceEstimate) -> list[str]:
    peak, total = estimate.profiler.peak, estimate.memory_bytes
    state = estimate.param_bytes + estimate.grad_bytes + estimate.optimizer_bytes
    headroom = total - peak.peak_bytes
    rest = "activations" if estimate.profiler.on_gpu else "activations and libraries"
    lines = [
        f"memory    peak {format_bytes(peak.peak_bytes)}, in phase: {_LABELS.get(peak.phase, peak.phase)}; parameters "
        f"{format_bytes(estimate.param_bytes)}, gradients {format_bytes(estimate.grad_bytes)}, optimizer "
        f"{format_bytes(estimate.optimizer_bytes)}, {rest} {format_bytes(max(peak.peak_bytes - state, 0))}",
    ]
    if headroom >= LOW_HEADROOM * total:
        return [*lines, f"          fits: {format_bytes(headroom)} of {format_bytes(total)} remain free"]
    lines.append(
        f"warning   only {format_bytes(max(headroom, 0))} of {format_bytes(total)} remain free; suggestions:"
    )
    changes = suggest_less_memory(peak.phase, estimate.run_config, estimate.plan)
    return lines + [f"            {change}" for change in changes]


def _speed(estimate: ResourceEstimate) -> str:
    fraction = estimate.prepared.report.splits["train"]["target_share"]
    rate = estimate.world_size / estimate.seconds_per_token
    ranks = f" on {estimate.world_size} ranks" if estimate.world_size > 1 else ""
    targets = "" if estimate.tokens_per_step else f" ({rate * fraction:,.0f} target tok/s)"
    return f"speed     {rate:,.0f} tok/s{ranks}{targets}"


def _time(estimate: ResourceEstimate) -> str:
    steps, profiler = estimate.plan.num_steps, estimate.profiler
    training = estimate.num_tokens * estimate.seconds_per_token / estimate.world_size
    training += steps * profiler.seconds("optimizer")
    costs = [HookCost(f"{steps:,} steps", training), *estimate.hook_costs]
    parts = [f"{cost.label} {format_duration(cost.seconds)}" for cost in costs if cost.seconds]
    setup = profiler.seconds("model") + profiler.seconds("setup")
    total = setup + sum(cost.seconds for cost in costs)
    return f"time      about {format_duration(total)}: {', '.join(parts)}"


def _disk(profiler: ResourceProfiler) -> list[str]:
    disk = profiler.disk
    if disk is None:
        return []
    best = " + best" if disk.keeps_best else ""
    return [
        f"disk      up to {format_bytes(disk.kept_bytes)}: {disk.save_total_limit}{best} checkpoints of "
        f"{format_bytes(disk.checkpoint_bytes)}, and final/ of {format_bytes(disk.final_bytes)}; "
        f"{format_bytes(disk.free_bytes)} free",
        f"          {format_bytes(disk.checkpoint_bytes)} more while a checkpoint is written",
    ]


def _conclusion(estimate: ResourceEstimate) -> str:
    epochs = -(-estimate.plan.num_steps // estimate.plan.batches.steps_per_epoch)
    searched = estimate.searched_epochs
    partial = "" if searched >= epochs else f" (largest batch of the first {searched} epochs)"
    return f"dry run complete{partial}; nothing was written. Remove --dry-run to train."
