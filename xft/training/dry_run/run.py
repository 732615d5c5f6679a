"""Run the largest batch through every phase of a training, without keeping anything."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from xft.data import PreparedData
from xft.errors import RunInterrupted
from xft.models import unwrap
from xft.objectives import as_objective
from xft.run_config.config import RunConfig
from xft.run_config.plan import TrainingPlan
from xft.training.dry_run.estimate import ResourceEstimate, format_estimate
from xft.training.dry_run.largest_batch import (
    describe_costliest_image,
    evenly_spaced,
    find_largest_batches,
)
from xft.training.dry_run.profile import ResourceProfiler
from xft.training.dry_run.suggestions import suggest_less_memory
from xft.training.hooks.base import Hook, HookCost
from xft.training.loop import TrainLoop
from xft.training.rollout_loop import RolloutLoop
from xft.training.runner import Runner
from xft.types import Batch
from xft.utils import console, paths
from xft.utils.temporary_folder import temporary_folder

NAME = "dry-run"
NUM_TIMED_BATCHES = 4
"""Number of micro-batches of typical size that are timed."""
MAX_TIMED_SECONDS = 40.0
"""Expected duration of the timed batches above which only one batch is timed."""


@contextmanager
def temporary_run_dir(work_dir: Path, rank: int) -> Iterator[Path]:
    """Make a temporary folder on the disk of the run folder, and remove it afterwards.

    The run folder itself is not made. SIGTERM ends the ``with`` statement with ``RunInterrupted``.

    Args:
        work_dir: run folder of the real run.
        rank: rank of this process; only rank 0 makes a folder.
    """
    if rank != 0:
        yield work_dir
        return
    parent = paths.existing_parent(work_dir.parent)
    in_main_thread = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, _interrupt) if in_main_thread else None
    try:
        with temporary_folder(parent / NAME) as folder:
            yield folder
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, previous if previous is not None else signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise RunInterrupted(number, "dry run interrupted; nothing was written")


class DryRun:
    """Run the largest batch through every phase of a training, and estimate its resources.

    Args:
        run_config: config of the run.
        device: device of the model.

    Attributes:
        plan: plan of the run; ``None`` before it exists.
        profiler: measures the phases.
    """

    def __init__(self, run_config: RunConfig, device: torch.device) -> None:
        self.run_config = run_config
        self.plan: TrainingPlan | None = None
        self.profiler = ResourceProfiler(
            device, lambda phase: suggest_less_memory(phase, run_config, self.plan)
        )
        self._memory_bytes = self.profiler.available_bytes() + self.profiler.allocated_bytes()

    def run(self, runner: Runner, loop: TrainLoop, prepared: PreparedData) -> None:
        """Measure all phases, and print the estimate.

        Args:
            runner: runner in the folder of :func:`temporary_run_dir`. Of its hooks, only ``profile`` is called.
            loop: loop of the run.
            prepared: prepared data.

        Raises:
            TrainingError: a phase does not fit into memory, or the gradient is not finite.
            ConfigError: the disk is too small for the checkpoints.
        """
        runner.attach_loop(loop)
        self.plan = loop.plan
        strategy = runner.strategy
        estimate = ResourceEstimate(
            self.profiler,
            loop.plan,
            prepared,
            self.run_config,
            strategy.data_world_size,
            self._memory_bytes,
        )
        console.info("")
        for line in describe_costliest_image(prepared.train, loop.collator):
            console.info(line)
        console.info("dry run: largest batch (forward, backward, optimizer step)")
        estimate.measure_state(
            runner.unwrapped_model, lambda: self._run_steps(loop, prepared, estimate), strategy
        )
        for hook in runner.hooks:
            if isinstance(hook, Hook) and (cost := hook.profile(runner, self.profiler)) is not None:
                estimate.hook_costs.append(cost)
        for line in format_estimate(estimate):
            console.info(line)
        strategy.barrier()

    def _run_steps(self, loop: TrainLoop, prepared: PreparedData, estimate: ResourceEstimate) -> None:
        """Run two steps, then some batches of typical size for the speed.

        Why two steps: only the second one holds parameters, gradients, activations and optimizer
        state at the same time.
        """
        if isinstance(loop, RolloutLoop):
            self._run_rollout_step(loop, prepared, estimate)
            return
        strategy = loop.strategy
        largest = find_largest_batches(prepared.train, loop.plan, loop.collator)
        estimate.searched_epochs = largest.num_epochs
        repeats = 2 if loop.plan.batches.gradient_accumulation_steps > 1 else 1
        for micro_batches in ([largest.by_targets] * repeats, [largest.by_tokens] * repeats):
            self._run_step(
                loop, [loop.collator.collate(loop.samples, examples) for examples in micro_batches]
            )
        seconds = self.profiler.seconds("forward") + self.profiler.seconds("backward")
        # All ranks must time the same number of batches.
        mean = strategy.reduce_sum([seconds])[0] / strategy.world_size
        count = NUM_TIMED_BATCHES if mean * NUM_TIMED_BATCHES < MAX_TIMED_SECONDS else 1
        tokens = 0
        with self.profiler.phase("throughput", f"{count} batches of typical size"):
            for examples in evenly_spaced(loop.plan, count):
                batch = loop.collator.collate(loop.samples, examples)
                strategy.forward_backward(batch, 1 / max(batch.num_targets, 1), True)
                tokens += batch.num_tokens
        strategy.optimizer.zero_grad(set_to_none=True)
        estimate.seconds_per_token = self.profiler.seconds("throughput") / tokens

    def _run_rollout_step(
        self, loop: RolloutLoop, prepared: PreparedData, estimate: ResourceEstimate
    ) -> None:
        """Sample completions of the largest length for the longest prompts, and run two steps with them."""
        plan, config = loop.plan.batches, loop.collector.config
        estimate.searched_epochs = -(-loop.plan.num_steps // plan.steps_per_epoch)
        count = plan.micro_batch_size * plan.gradient_accumulation_steps
        examples = prepared.train.lengths.argsort()[::-1][:count].tolist()
        length = config.num_turns * config.max_new_tokens
        text = f"{len(examples) * config.num_generations:,} completions of {length:,} tokens"
        with self.profiler.phase("rollout", text):
            batches, larger = loop.largest_batches(examples)
        for _ in range(2):
            self._run_step(loop, [*batches, *larger])
        tokens = sum(batch.num_tokens for batch in batches)
        seconds = self.profiler.seconds("forward") + self.profiler.seconds("backward")
        estimate.seconds_per_token = seconds / [*batches, *larger][-1].num_tokens
        estimate.tokens_per_step = float(tokens * estimate.world_size)
        rollouts = -(-loop.plan.num_steps // plan.num_iterations)
        label = f"sampling {rollouts:,} times, if all completions have the largest length,"
        estimate.hook_costs.append(HookCost(label, rollouts * self.profiler.seconds("rollout")))

    def _run_step(self, loop: TrainLoop, batches: Sequence[Batch]) -> None:
        strategy, profiler = loop.strategy, self.profiler
        objective = as_objective(unwrap(strategy.model).objective)
        targets = sum(objective.count_targets(batch) for batch in batches)
        for number, batch in enumerate(batches, 1):
            text = f"{batch.num_tokens:,} tokens, {batch.num_targets:,} targets"
            handle = strategy.model.register_forward_hook(
                lambda *_, text=text: profiler.end_phase(text, next_phase="backward")
            )
            try:
                with profiler.phase("forward", text):
                    strategy.forward_backward(batch, 1 / max(targets, 1), number == len(batches))
            finally:
                handle.remove()
        with profiler.phase("optimizer", "one step"):
            strategy.step(loop.max_grad_norm)
