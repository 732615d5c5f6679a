"""What a run will take, by what its rehearsal took."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from xft.data import PreparedData
from xft.run_config.config import Recipe
from xft.run_config.plan import TrainingPlan
from xft.training.dry_run.profile import Meter, size_of
from xft.training.dry_run.suggestions import advice
from xft.training.hooks import CheckpointHook, SampleGenerationHook, ValidationHook
from xft.training.hooks.periodic import PeriodicHook
from xft.utils.console import format_bytes, format_duration

TIGHT = 0.08
"""With less of the memory left than this share, another program or a fragmented heap may end the run."""
_SHOWN = {
    "model": "load the model",
    "start": "optimizer, objective",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer step",
    "validation": "validation batch",
    "generation": "sample questions",
    "checkpoint": "checkpoint",
}


@dataclass
class Costs:
    """What was measured, and what it is multiplied by.

    Attributes:
        meter: with the parts.
        plan: of the run.
        prepared: its data.
        recipe: its config.
        world_size: ranks.
        room: bytes of memory that the run may take in all.
        weights, gradients, state: bytes of the model, of the gradients, of the optimizer's state.
        epochs_seen: epochs that were looked through for the longest batch.
        seconds_per_token: of a batch of usual size, forward and backward.
        validation_seconds: of a whole validation.
        checkpoint_bytes, final_bytes, free_bytes: on the disk; of a checkpoint, of ``final/``, free.
    """

    meter: Meter
    plan: TrainingPlan
    prepared: PreparedData
    recipe: Recipe
    world_size: int
    room: int
    weights: int = 0
    gradients: int = 0
    state: int = 0
    epochs_seen: int = 0
    seconds_per_token: float = 0.0
    validation_seconds: float = 0.0
    checkpoint_bytes: int = 0
    final_bytes: int = 0
    free_bytes: int = 0

    def measure_state(self, model: nn.Module, steps: Callable[[], None], strategy: Any) -> None:
        """Take steps, and measure what stays in the memory from step to step."""
        self.weights = size_of(iter(model.parameters()))
        self.gradients = size_of(each for each in model.parameters() if each.requires_grad)
        steps()
        held = (each for state in strategy.optimizer.state.values() for each in state.values())
        self.state = size_of(each for each in held if hasattr(each, "nbytes"))

    @property
    def tokens(self) -> float:
        """Tokens that the whole run trains on, on all ranks."""
        steps = self.plan.num_steps / self.plan.batches.steps_per_epoch
        return float(self.prepared.report.splits["train"]["tokens"] * steps)

    def times(self, kind: type[PeriodicHook]) -> int:
        """How often a hook acts in the steps of the run."""
        steps = self.plan.num_steps
        for hook in self.recipe.hooks.values():
            if isinstance(hook, kind):
                return sum(hook.is_due(step, steps) for step in range(1, steps + 1))
        return 0


def forecast(costs: Costs) -> list[str]:
    """Lines for the terminal: a table of the parts, then memory, speed, time and disk."""
    return [
        *_table(costs.meter),
        "",
        *_memory(costs),
        _speed(costs),
        *_time(costs),
        *_disk(costs),
        "",
        _end(costs),
    ]


def _table(meter: Meter) -> list[str]:
    where = "GPU memory" if meter.on_gpu else "memory"
    lines = ["", f"{'part':<21}{'time':>9}{where:>12}   what"]
    for kind, shown in _SHOWN.items():
        parts = [each for each in meter.parts if each.kind == kind]
        if parts:
            last, peak = parts[-1], max(each.peak for each in parts)
            lines.append(f"{shown:<21}{last.seconds:>8.2f}s{format_bytes(peak):>12}   {last.text}")
    return lines


def _memory(costs: Costs) -> list[str]:
    peak = costs.meter.peak
    named = costs.weights + costs.gradients + costs.state
    left = costs.room - peak.peak
    rest = "activations" if costs.meter.on_gpu else "activations and the libraries"
    lines = [
        f"memory    {format_bytes(peak.peak)} at most, in: {_SHOWN.get(peak.kind, peak.kind)}; weights "
        f"{format_bytes(costs.weights)}, gradients {format_bytes(costs.gradients)}, optimizer {format_bytes(costs.state)}, "
        f"{rest} {format_bytes(max(peak.peak - named, 0))}",
    ]
    if left >= TIGHT * costs.room:
        return [*lines, f"          it fits: {format_bytes(left)} of {format_bytes(costs.room)} stay free"]
    lines.append(
        f"warning   only {format_bytes(max(left, 0))} of {format_bytes(costs.room)} stay free; what may be changed:"
    )
    return lines + [f"            {each}" for each in advice(peak.kind, costs.recipe, costs.plan)]


def _speed(costs: Costs) -> str:
    share = costs.prepared.report.splits["train"]["target_share"]
    rate = costs.world_size / costs.seconds_per_token
    ranks = f" on {costs.world_size} ranks" if costs.world_size > 1 else ""
    return f"speed     {rate:,.0f} tokens/s{ranks}, {rate * share:,.0f} of them trained"


def _time(costs: Costs) -> list[str]:
    steps = costs.plan.num_steps
    training = costs.tokens * costs.seconds_per_token / costs.world_size
    training += steps * costs.meter.seconds("optimizer")
    # Both are done before the first step too.
    validations = costs.times(ValidationHook) + 1 if costs.validation_seconds else 0
    askings = costs.times(SampleGenerationHook) + 1 if costs.meter.seconds("generation") else 0
    saves = costs.times(CheckpointHook)
    spent = [
        (training, f"{steps:,} steps"),
        (validations * costs.validation_seconds, f"{validations} validations"),
        (askings * costs.meter.seconds("generation"), f"the sample questions {askings} times"),
        (saves * costs.meter.seconds("checkpoint"), f"{saves} checkpoints"),
    ]
    said = ", ".join(f"{text} {format_duration(seconds)}" for seconds, text in spent if seconds)
    begin = costs.meter.seconds("model") + costs.meter.seconds("start")
    total = begin + sum(seconds for seconds, _ in spent)
    return [f"time      about {format_duration(total)}: {said}"]


def _disk(costs: Costs) -> list[str]:
    if not costs.checkpoint_bytes:
        return []
    keep = next(
        each.keep_last_n for each in costs.recipe.hooks.values() if isinstance(each, CheckpointHook)
    )
    after = (keep + 1) * costs.checkpoint_bytes + costs.final_bytes
    return [
        f"disk      up to {format_bytes(after)} stay: {keep} checkpoints and the best one, {format_bytes(costs.checkpoint_bytes)} "
        f"each, and the model itself, {format_bytes(costs.final_bytes)}",
        f"          {format_bytes(costs.free_bytes)} are free; while one is written, {format_bytes(costs.checkpoint_bytes)} more "
        "are taken",
    ]


def _end(costs: Costs) -> str:
    whole = -(-costs.plan.num_steps // costs.plan.batches.steps_per_epoch)
    seen = (
        ""
        if costs.epochs_seen >= whole
        else f" (the longest batch is that of the first {costs.epochs_seen} epochs)"
    )
    return f"this was a rehearsal{seen}: nothing was kept; without --dry-run, the run begins"
