"""The training loop: optimizer steps, weighted by what is trained."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from xft.compat.mmengine import BaseLoop
from xft.data import Collator
from xft.errors import TrainingError
from xft.evaluation.metrics import MetricAccumulator
from xft.models import unwrap
from xft.objectives import Objective, as_objective
from xft.run_config.plan import TrainingPlan
from xft.strategies import SingleDevice
from xft.types import Batch, Sample


class TrainLoop(BaseLoop):
    """Takes ``plan.num_steps`` optimizer steps.

    The loss of a step is the mean over the targets of its whole accumulation window, on all ranks:
    every one weighs the same, however the window is cut into micro-batches. Targets are trained
    tokens, or what else the objective counts, such as pairs.

    Args:
        runner: whose hooks are called after each step.
        strategy: takes the steps.
        samples: the training split.
        plan: in which portions.
        clip: the most that the gradient's norm may be.
        collator: lays the micro-batches out; the plan is of its examples.

    Attributes:
        stop_reason: set by a hook to end the run after this step.
        forgiven: set by a hook in ``after_nonfinite`` to leave a step out and go on.
    """

    def __init__(
        self,
        runner: Any,
        strategy: SingleDevice,
        samples: Sequence[Sample],
        plan: TrainingPlan,
        clip: float | None,
        collator: Collator,
    ) -> None:
        super().__init__(runner, dataloader=samples)
        self.strategy = strategy
        self.samples = samples
        self.plan = plan
        self.clip = clip
        self.collator = collator
        self.step = 0
        self.stop_reason: str | None = None
        self.forgiven = False
        self.tokens_seen = 0
        self._place = (0, 0)

    @property
    def iter(self) -> int:
        """Optimizer steps taken, under MMEngine's name."""
        return self.step

    @property
    def max_iters(self) -> int:
        """Optimizer steps in the whole run, under MMEngine's name."""
        return self.plan.num_steps

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return self.step // self.plan.batches.steps_per_epoch

    @property
    def max_epochs(self) -> int:
        """Epochs that the run will begin."""
        return math.ceil(self.plan.num_steps / self.plan.batches.steps_per_epoch)

    def run(self) -> None:
        """Train until the last step, or until a hook sets ``stop_reason``."""
        self.runner.call_hook("before_train")
        # One thread lays the batches of the next step out while this one is taken.
        with ThreadPoolExecutor(1, "batches") as ahead:
            waiting = ahead.submit(self._batches, self.step)
            while self.step < self.plan.num_steps and self.stop_reason is None:
                self._place = self._place_of(self.step)
                batches = waiting.result()
                if self.step + 1 < self.plan.num_steps:
                    waiting = ahead.submit(self._batches, self.step + 1)
                record = self._step(batches)
                self.step += 1
                self.runner.call_hook(
                    "after_train_iter", batch_idx=self.step - 1, data_batch=batches, outputs=record
                )
        self.runner.call_hook("after_train")

    def rows(self, wanted: Sequence[tuple[int, int]] | None = None) -> list[str]:
        """Where the samples of the newest step came from, for a person.

        Args:
            wanted: rank and number of the micro-batches in question; ``None`` is all of all ranks.
        """
        ranks = range(self.strategy.data_world_size)
        if wanted is None:
            wanted = [(rank, each) for rank in ranks for each in range(len(self._window(rank)))]
        examples = sorted({example for rank, each in wanted for example in self._window(rank)[each]})
        name = getattr(self.samples, "origin", "sample {}".format)
        return list(
            dict.fromkeys(name(self.collator.samples_per_example * example) for example in examples)
        )

    def _window(self, rank: int) -> list[list[int]]:
        epoch, position = self._place
        return self.plan.batches.micro_batches(epoch, position, rank)

    def _place_of(self, step: int) -> tuple[int, int]:
        """Epoch, and step within it."""
        return divmod(step, self.plan.batches.steps_per_epoch)

    def _batches(self, step: int) -> list[Batch]:
        """The micro-batches of a step on this rank; a function of the step's number alone."""
        window = self.plan.batches.micro_batches(*self._place_of(step), self.strategy.data_rank)
        batches = [self.collator.collate(self.samples, examples) for examples in window]
        # What is pinned a GPU fetches by itself; the host does not wait for it.
        return [each.pin_memory() for each in batches] if self.strategy.device.type == "cuda" else batches

    def _step(self, batches: Sequence[Batch]) -> dict[str, float]:
        begun = time.perf_counter()
        lr = self.strategy.lr_scheduler.get_last_lr()[0]
        objective = self._objective
        own = [
            sum(objective.count_targets(batch) for batch in batches),
            sum(each.num_targets for each in batches),
            # What keeps a rank in step that nothing is left for has no targets, and is not trained on.
            sum(each.num_tokens for each in batches if each.num_targets),
        ]
        targets, trained, tokens = self.strategy.reduce_data_sum(own)
        tally = MetricAccumulator()
        losses: list[Tensor] = []
        for number, batch in enumerate(batches, 1):
            output = self.strategy.forward_backward(batch, 1 / max(targets, 1), number == len(batches))
            tally.add(output)
            losses.append(output.loss_sum.detach())
        figures = tally.means(self.strategy.reduce_data_sum)
        figures.pop("targets")
        grad_norm = self._change_weights(figures.setdefault("loss", 0.0), losses)
        seconds = time.perf_counter() - begun
        self.tokens_seen += int(tokens)
        record: dict[str, float] = {
            **figures,
            "lr": float(lr),
            "grad_norm": math.nan if grad_norm is None else grad_norm,
            "tokens": int(tokens),
            "target_tokens": int(trained),
            "tokens_per_second": tokens / seconds,
            "target_tokens_per_second": trained / seconds,
            "seconds": seconds,
        }
        if grad_norm is None:
            record["skipped"] = 1
        return record

    @property
    def _objective(self) -> Objective:
        return as_objective(unwrap(self.strategy.model).objective)

    def _change_weights(self, loss: float, losses: Sequence[Tensor]) -> float | None:
        """Take the optimizer's step, unless its numbers are none.

        All ranks decide alike: the loss is a sum over them, and so is the gradient.

        Args:
            loss: of the whole step.
            losses: of each micro-batch of this rank.

        Returns:
            The norm of the gradient, or ``None`` where the step is left out.

        Raises:
            TrainingError: loss or gradient is not finite, and no hook forgives it.
        """
        if not math.isfinite(loss):
            self._refuse(f"the loss is {loss}", losses)
            return None
        try:
            return self.strategy.step(self.clip)
        except TrainingError as error:
            self._refuse(str(error), losses)
            return None

    def _refuse(self, reason: str, losses: Sequence[Tensor]) -> None:
        own = [(self.strategy.data_rank, at) for at, each in enumerate(losses) if not torch.isfinite(each)]
        broken = [each for rank in self.strategy.gather(own) for each in rank]
        rows = self.rows(broken or None)
        self.strategy.zero_grad()
        self.forgiven = False
        self.runner.call_hook("after_nonfinite", reason=reason, rows=rows)
        if not self.forgiven:
            raise TrainingError(
                f"step {self.step + 1}: {reason} (rows: {shorten(rows)}); lower optimizer.lr, or look at these rows "
                "with `xft inspect-data`. The last checkpoint is from before it, and "
                "hooks.training_health.on_nonfinite='skip' leaves such steps out"
            )
        # The rate at a step depends on its number alone, whatever was left out before it.
        self.strategy.lr_scheduler.step()


def shorten(rows: Sequence[str], most: int = 8) -> str:
    """Names of rows in one line: the first of them, and how many there are beside."""
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(rows[:most]) + more
