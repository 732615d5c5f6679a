"""The rehearsal itself: the longest batch through every part of a run."""

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType

import torch

from xft.checkpoint.resume_state import STATE_FILE
from xft.checkpoint.writer import check_disk_space_for_run
from xft.data import PreparedData
from xft.models import TrainingModel, unwrap
from xft.objectives import as_objective
from xft.run_config.config import Recipe
from xft.run_config.plan import TrainingPlan
from xft.training.dry_run.estimate import Costs, forecast
from xft.training.dry_run.largest_batch import largest, spread
from xft.training.dry_run.profile import Meter
from xft.training.dry_run.suggestions import advice
from xft.training.hooks import CheckpointHook, SampleGenerationHook, ValidationHook
from xft.training.loop import TrainLoop
from xft.training.runner import Runner
from xft.training.signals import Stopped
from xft.types import Sample
from xft.utils import console

PREFIX = ".dry-run-"
TIMED = 4
"""How many micro-batches of usual size are timed, and how many seconds that may take."""
TIMED_SECONDS = 40.0


@contextmanager
def scratch(work_dir: Path, rank: int) -> Iterator[Path]:
    """A folder on the disk of the run folder, gone afterwards; the run folder itself is not made.

    Args:
        work_dir: where the run would be.
        rank: only the first makes a folder.
    """
    if rank != 0:
        yield work_dir
        return
    parent = next(each for each in work_dir.parents if each.is_dir())
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX))
    before = signal.signal(signal.SIGTERM, _end) if _may_listen() else None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if _may_listen():
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _may_listen() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end(number: int, frame: FrameType | None) -> None:
    raise Stopped(number, "the rehearsal was told to end; nothing was kept")


class Rehearsal:
    """Takes the longest batch through every part of a run, and measures.

    Args:
        recipe: of the run.
        device: where the model will be.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe = recipe
        self.plan: TrainingPlan | None = None
        self.meter = Meter(device, lambda kind: advice(kind, recipe, self.plan))
        self._room = self.meter.available() + self.meter.held()

    def part(self, kind: str, text: str) -> AbstractContextManager[None]:
        """Measure what stands under ``with``, as :meth:`Meter.part` does."""
        return self.meter.part(kind, text)

    def perform(self, runner: Runner, loop: TrainLoop, prepared: PreparedData) -> None:
        """Rehearse, and say what the run will take.

        Args:
            runner: whose folder is the one of :func:`scratch`. No hook of it is called.
            loop: of the run.
            prepared: the data.

        Raises:
            TrainingError: a part does not fit into the memory, or the gradient is not finite.
            ConfigError: the disk is too small for the checkpoints.
        """
        runner.attach_loop(loop)
        self.plan = loop.plan
        costs = Costs(
            self.meter, loop.plan, prepared, self.recipe, runner.strategy.data_world_size, self._room
        )
        console.info("")
        console.info("trying the longest batch: forward, backward, optimizer")
        costs.measure_state(
            runner.unwrapped_model, lambda: self._steps(loop, prepared, costs), runner.strategy
        )
        self._validation(runner, loop, prepared, costs)
        self._questions(runner)
        self._save(runner, costs)
        for line in forecast(costs):
            console.info(line)
        runner.strategy.barrier()

    def _steps(self, loop: TrainLoop, prepared: PreparedData, costs: Costs) -> None:
        """Two steps: only in the second one are weights, gradients, activations and the optimizer's
        state there at once. Then some batches of usual size, for the speed."""
        strategy = loop.strategy
        found = largest(prepared.train, loop.plan, loop.collator)
        costs.epochs_seen = found.epochs
        again = 2 if loop.plan.batches.gradient_accumulation_steps > 1 else 1
        for window in ([found.by_targets] * again, [found.by_tokens] * again):
            self._step(loop, window)
        seconds = self.meter.seconds("forward") + self.meter.seconds("backward")
        slowest = strategy.reduce_sum([seconds])[0] / strategy.world_size
        count = TIMED if slowest * TIMED < TIMED_SECONDS else 1
        tokens = 0
        with self.meter.part("usual", f"{count} batches of usual size"):
            for examples in spread(loop.plan, count):
                batch = loop.collator.collate(loop.samples, examples)
                strategy.forward_backward(batch, 1 / max(batch.num_targets, 1), True)
                tokens += batch.num_tokens
        strategy.optimizer.zero_grad(set_to_none=True)
        costs.seconds_per_token = self.meter.seconds("usual") / tokens

    def _step(self, loop: TrainLoop, window: Sequence[list[int]]) -> None:
        strategy = loop.strategy
        batches = [loop.collator.collate(loop.samples, examples) for examples in window]
        inner = unwrap(strategy.model)
        assert isinstance(inner, TrainingModel)
        targets = sum(as_objective(inner.objective).count_targets(batch) for batch in batches)
        for number, batch in enumerate(batches, 1):
            text = f"{batch.num_tokens:,} tokens, {batch.num_targets:,} of them trained"
            through = strategy.model.register_forward_hook(
                lambda *_, text=text: self.meter.end(text, then="backward")
            )
            try:
                with self.meter.part("forward", text):
                    strategy.forward_backward(batch, 1 / max(targets, 1), number == len(batches))
            finally:
                through.remove()
        with self.meter.part("optimizer", "a step"):
            strategy.step(loop.clip)

    def _validation(self, runner: Runner, loop: TrainLoop, prepared: PreparedData, costs: Costs) -> None:
        hook = next((each for each in runner.hooks if isinstance(each, ValidationHook)), None)
        if hook is None or not len(prepared.val):
            return
        console.info("trying a batch of the validation")
        size = prepared.samples_per_example
        sizes = prepared.val.lengths.reshape(-1, size).sum(axis=1)
        longest = sizes.argsort()[::-1][: hook.batch_size * runner.strategy.data_world_size]
        samples: list[Sample] = [
            prepared.val[int(example) * size + offset] for example in longest for offset in range(size)
        ]
        text = f"{len(longest):,} of {len(sizes):,} rows, {int(sizes[longest].sum()):,} tokens"
        with self.part("validation", text):
            hook.measure(runner, samples)
        costs.validation_seconds = (
            self.meter.seconds("validation") * int(sizes.sum()) / int(sizes[longest].sum())
        )

    def _questions(self, runner: Runner) -> None:
        hook = next((each for each in runner.hooks if isinstance(each, SampleGenerationHook)), None)
        if hook is None or not runner.eval_prompts or runner.template is None or runner.strategy.rank != 0:
            return
        console.info("trying the sample questions")
        text = f"{len(runner.eval_prompts)} questions, {hook.max_new_tokens} new tokens at most"
        with self.part("generation", text):
            hook.answers(runner)

    def _save(self, runner: Runner, costs: Costs) -> None:
        hook = next((each for each in runner.hooks if isinstance(each, CheckpointHook)), None)
        if hook is None:
            return
        console.info("trying a checkpoint")
        with self.part("checkpoint", "copied, written, flushed and read back"):
            checkpointer = runner.checkpointer
            if runner.strategy.rank == 0:
                checkpointer.root.mkdir(parents=True, exist_ok=True)
                checkpointer.check_disk_space(hook.keep_last_n, hook.save_optimizer_state)
            checkpointer.save(
                runner.run_state(),
                hook.keep_last_n,
                save_optimizer_state=hook.save_optimizer_state,
                block=True,
            )
            result = checkpointer.poll()
            if result is not None and result.error is not None:
                raise result.error
            if result is not None:
                folder = checkpointer.root / f"step_{result.step}"
                sizes = {file.name: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
                costs.checkpoint_bytes = sum(sizes.values())
                costs.final_bytes = sum(
                    size for name, size in sizes.items() if not name.startswith(Path(STATE_FILE).stem)
                )
                costs.free_bytes = shutil.disk_usage(folder).free + costs.checkpoint_bytes
                check_disk_space_for_run(checkpointer.root, costs.checkpoint_bytes, hook.keep_last_n)
