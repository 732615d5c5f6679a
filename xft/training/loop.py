"""Training loop: optimizer steps, weighted by the number of targets."""

import math
import time
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import torch
from torch import Tensor

from xft.compat.mmengine import BaseLoop, RunnerBase
from xft.data import Collator, SampleView
from xft.errors import TrainingError
from xft.evaluation.metrics import MetricAccumulator
from xft.models import unwrap
from xft.objectives import Objective, as_objective
from xft.run_config.plan import TrainingPlan
from xft.strategies import Strategy
from xft.types import Batch, LossOutput, Sample


class TrainLoop(BaseLoop):
    """Run ``plan.num_steps`` optimizer steps.

    The loss of a step is the mean over the targets of all its micro-batches, on all ranks: each target
    has the same weight, however the step is divided into micro-batches. Targets are target tokens, or
    what the objective counts, such as pairs.

    Args:
        runner: runner whose hooks are called after each step.
        strategy: runs forward, backward and optimizer.
        samples: training split.
        plan: batch composition and number of steps.
        max_grad_norm: maximum global norm of the gradient; ``None`` disables clipping.
        collator: collates the micro-batches; the plan indexes its examples.

    Attributes:
        validation_metric: metric of the validation that says how good the model is.
        step: number of optimizer steps so far.
        has_updated: whether a step of this process has changed the weights: the first step of a warm-up, whose learning rate
            is 0, and a skipped step do not.
        tokens_seen: number of training tokens so far, on all ranks.
        stop_reason: set by a hook to end the run after this step.
        skip_nonfinite: set by a hook in ``after_nonfinite`` to skip a step.
    """

    validation_metric = "loss"

    def __init__(
        self,
        runner: RunnerBase,
        strategy: Strategy,
        samples: Sequence[Sample],
        plan: TrainingPlan,
        max_grad_norm: float | None,
        collator: Collator,
    ) -> None:
        super().__init__(runner, dataloader=samples)
        self.strategy = strategy
        self.samples = samples
        self.plan = plan
        self.max_grad_norm = max_grad_norm
        self.collator = collator
        self.step = 0
        self.stop_reason: str | None = None
        self.skip_nonfinite = False
        self.has_updated = False
        self.tokens_seen = 0
        self._current = (0, 0)

    @property
    def iter(self) -> int:
        """Number of optimizer steps so far, under MMEngine's name."""
        return self.step

    @property
    def max_iters(self) -> int:
        """Number of optimizer steps of the whole run, under MMEngine's name."""
        return self.plan.num_steps

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self.step // self.plan.batches.steps_per_epoch

    @property
    def max_epochs(self) -> int:
        """Number of epochs of the whole run; the last one may be partial."""
        return math.ceil(self.plan.num_steps / self.plan.batches.steps_per_epoch)

    def local_state(self) -> object:
        """Return what this rank needs to resume besides weights, optimizer and step; ``None`` for nothing.

        A checkpoint stores numbers, texts, tensors, and lists and dicts of them.
        """
        return None

    def load_local_states(self, states: Sequence[object]) -> None:
        """Load the results of :meth:`local_state` of all ranks of the run that saved them; ``step`` is set before.

        Raises:
            CheckpointError: a result that the next step needs is missing.
        """

    def close(self) -> None:
        """Release what the loop holds outside of this process, at the end of the run and after an error."""

    def run(self) -> None:
        """Train until the last step, or until a hook sets ``stop_reason``."""
        self.runner.call_hook("before_train")
        with closing(self._iter_batches()) as steps:
            while self.step < self.plan.num_steps and self.stop_reason is None:
                self._current = self._epoch_position(self.step)
                batches = next(steps)
                record = self._run_step(batches)
                self.step += 1
                self.runner.call_hook(
                    "after_train_iter", batch_idx=self.step - 1, data_batch=batches, outputs=record
                )
        self.runner.call_hook("after_train")

    def _iter_batches(self) -> Generator[list[Batch]]:
        """Yield the micro-batches of each step on this rank. A thread collates those of the next step meanwhile."""
        with ThreadPoolExecutor(1, "batches") as prefetcher:
            pending = prefetcher.submit(self._collate_step, self.step)
            for step in range(self.step + 1, self.plan.num_steps):
                batches = pending.result()
                pending = prefetcher.submit(self._collate_step, step)
                yield batches
            yield pending.result()

    def sample_origins(self, micro_batches: Sequence[tuple[int, int]] | None = None) -> list[str]:
        """Return the origins of the samples of the current step, as ``file:line``.

        Args:
            micro_batches: rank and index of micro-batches; ``None`` selects all of all ranks.
        """
        if micro_batches is None:
            micro_batches = [
                (rank, index)
                for rank in range(self.strategy.data_world_size)
                for index in range(len(self._micro_batches(rank)))
            ]
        examples = sorted(
            {example for rank, index in micro_batches for example in self._micro_batches(rank)[index]}
        )
        size = self.collator.samples_per_example
        return list(dict.fromkeys(self._origin(size * example) for example in examples))

    def _origin(self, index: int) -> str:
        return self.samples.origin(index) if isinstance(self.samples, SampleView) else f"sample {index}"

    def _micro_batches(self, rank: int) -> list[list[int]]:
        epoch, position = self._current
        return self.plan.batches.micro_batches(epoch, position, rank)

    def _epoch_position(self, step: int) -> tuple[int, int]:
        """Return the epoch of a step, and its position within the epoch."""
        return divmod(step, self.plan.batches.steps_per_epoch)

    def _collate_step(self, step: int) -> list[Batch]:
        """Collate the micro-batches of a step on this rank; a pure function of the step's number."""
        epoch, position = self._epoch_position(step)
        micro_batches = self.plan.batches.micro_batches(epoch, position, self.strategy.data_rank)
        batches = [self.collator.collate(self.samples, examples) for examples in micro_batches]
        # A GPU copies pinned memory asynchronously.
        return [batch.pin_memory() for batch in batches] if self.strategy.device.type == "cuda" else batches

    def _run_step(self, batches: Sequence[Batch]) -> dict[str, float]:
        started = time.perf_counter()
        lr = self.strategy.lr_scheduler.get_last_lr()[0]
        objective = self._objective
        counts = [
            sum(objective.count_targets(batch) for batch in batches),
            sum(batch.num_targets for batch in batches),
            # Ranks that run out of data process a dummy batch with zero targets, which keeps collectives matched.
            sum(batch.num_tokens for batch in batches if batch.num_targets),
        ]
        targets, target_tokens, tokens = self.strategy.reduce_data_sum(counts)
        accumulator = MetricAccumulator()
        losses: list[Tensor] = []
        for number, batch in enumerate(batches, 1):
            output = self.strategy.forward_backward(batch, 1 / max(targets, 1), number == len(batches))
            accumulator.add(output)
            losses.append(output.loss_sum.detach())
            self._after_forward(output)
        metrics = accumulator.means(self.strategy.reduce_data_sum)
        metrics.pop("targets")
        grad_norm = self._optimizer_step(metrics.setdefault("loss", 0.0), losses)
        seconds = time.perf_counter() - started
        self.tokens_seen += int(tokens)
        record: dict[str, float] = {
            **metrics,
            "lr": float(lr),
            "grad_norm": math.nan if grad_norm is None else grad_norm,
            "tokens": int(tokens),
            "target_tokens": int(target_tokens),
            "tokens_per_second": tokens / seconds,
            "target_tokens_per_second": target_tokens / seconds,
            "seconds": seconds,
        }
        if grad_norm is None:
            record["skipped"] = 1
        return record

    def _after_forward(self, output: LossOutput) -> None:
        """Run after each micro-batch."""

    @property
    def _objective(self) -> Objective:
        return as_objective(unwrap(self.strategy.model).objective)

    def _optimizer_step(self, loss: float, losses: Sequence[Tensor]) -> float | None:
        """Run the optimizer step unless the loss or the gradient norm is non-finite.

        All ranks decide alike: loss and gradient are sums over the ranks.

        Args:
            loss: loss of the step.
            losses: loss sum of each micro-batch of this rank.

        Returns:
            The gradient norm; ``None`` if the step is skipped.

        Raises:
            TrainingError: loss or gradient norm is not finite, and no hook skips the step.
        """
        if not math.isfinite(loss):
            self._handle_nonfinite(f"the loss is {loss}", losses)
            return None
        lr = float(self.strategy.lr_scheduler.get_last_lr()[0])
        try:
            grad_norm = self.strategy.step(self.max_grad_norm)
        except TrainingError as error:
            self._handle_nonfinite(str(error), losses)
            return None
        self.has_updated |= lr > 0
        return grad_norm

    def _handle_nonfinite(self, reason: str, losses: Sequence[Tensor]) -> None:
        rank = self.strategy.data_rank
        local = [(rank, index) for index, loss in enumerate(losses) if not torch.isfinite(loss)]
        nonfinite = [location for locations in self.strategy.gather(local) for location in locations]
        rows = self.sample_origins(nonfinite or None)
        self.strategy.zero_grad()
        self.skip_nonfinite = False
        self.runner.call_hook("after_nonfinite", reason=reason, rows=rows)
        if not self.skip_nonfinite:
            raise TrainingError(
                f"step {self.step + 1}: {reason} (rows: {abbreviate(rows)}); lower optimizer.lr, or inspect these rows "
                "with `xft inspect-data`. The last checkpoint precedes this step. "
                "hooks.training_health.on_nonfinite='skip' skips such steps",
                key="hooks.training_health.on_nonfinite",
                got=reason,
            )
        # The learning rate depends on the step number only, not on skipped steps.
        with warnings.catch_warnings():
            # Why: torch warns if the first step of a run is one of them.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.strategy.lr_scheduler.step()


def abbreviate(rows: Sequence[str], max_rows: int = 8) -> str:
    """Join row origins in one line: the first ``max_rows``, and the number of further ones."""
    more = f" and {len(rows) - max_rows} more" if len(rows) > max_rows else ""
    return ", ".join(rows[:max_rows]) + more
