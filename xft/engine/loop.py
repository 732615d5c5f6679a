"""The training loop: optimizer steps, weighted by trained tokens."""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.runner import BaseLoop

from xft.data import collate_flat, collate_padded
from xft.engine.plan import TrainingPlan
from xft.engine.strategies import SingleDevice
from xft.errors import TrainingError
from xft.types import IGNORE_INDEX, Batch, Sample


class TrainLoop(BaseLoop):
    """Takes ``plan.num_steps`` optimizer steps.

    The loss of a step is the mean over the trained tokens of its whole accumulation window, on
    all ranks: every token weighs the same, however the window is cut into micro-batches.

    Args:
        runner: whose hooks are called after each step.
        strategy: takes the steps.
        samples: the training split.
        plan: in which portions.
        clip: the most that the gradient's norm may be.
        pad_token_id: pads batches of models that cannot take samples one behind the other;
            ``None`` lays them out flat.
    """

    def __init__(
        self,
        runner: Any,
        strategy: SingleDevice,
        samples: Sequence[Sample],
        plan: TrainingPlan,
        clip: float | None,
        pad_token_id: int | None = None,
    ) -> None:
        super().__init__(runner, dataloader=samples)
        self.strategy = strategy
        self.samples = samples
        self.plan = plan
        self.clip = clip
        self.pad_token_id = pad_token_id
        self.step = 0
        self.stop_reason: str | None = None
        self.tokens_seen = 0

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
        while self.step < self.plan.num_steps and self.stop_reason is None:
            epoch, position = divmod(self.step, self.plan.batches.steps_per_epoch)
            window = self.plan.batches.window(epoch, position, self.strategy.rank)
            batches = [self._lay_out(each) for each in window]
            record = self._step(batches)
            self.step += 1
            self.runner.call_hook(
                "after_train_iter", batch_idx=self.step - 1, data_batch=batches, outputs=record
            )
        self.runner.call_hook("after_train")

    def _lay_out(self, indices: Sequence[int]) -> Batch:
        samples = [self.samples[each] for each in indices] or [self.samples[0]]
        flat = self.pad_token_id is None
        batch = collate_flat(samples) if flat else collate_padded(samples, self.pad_token_id or 0)
        if not indices:  # nothing is left for this rank: it keeps step with the others, with no weight
            batch.labels.fill_(IGNORE_INDEX)
        return batch

    def _step(self, batches: Sequence[Batch]) -> dict[str, float]:
        begun = time.perf_counter()
        lr = self.strategy.schedule.get_last_lr()[0]
        own = [sum(each.num_targets for each in batches), sum(each.num_tokens for each in batches)]
        targets, tokens = self.strategy.reduce_sum(own)
        loss_sum = torch.zeros((), device=self.strategy.device)
        metrics: dict[str, Any] = {}
        for number, batch in enumerate(batches, 1):
            output = self.strategy.forward_backward(batch, 1 / max(targets, 1), number == len(batches))
            loss_sum += output.loss_sum.detach()
            for name, value in output.metrics.items():
                metrics[name] = metrics.get(name, 0) + value
        names = sorted(metrics)
        totals = self.strategy.reduce_sum([float(loss_sum), *(float(metrics[each]) for each in names)])
        loss = totals[0] / max(targets, 1)
        if not math.isfinite(loss):
            raise TrainingError(
                f"step {self.step + 1}: the loss is {loss}; lower optimizer.lr, or look at the rows of this "
                "step with `xft inspect-data`. The last checkpoint is from before it"
            )
        grad_norm = self.strategy.step(self.clip)
        seconds = time.perf_counter() - begun
        self.tokens_seen += int(tokens)
        record: dict[str, float] = {
            "loss": loss,
            "lr": float(lr),
            "grad_norm": grad_norm,
            "tokens": int(tokens),
            "target_tokens": int(targets),
            "tokens_per_second": tokens / seconds,
            "target_tokens_per_second": targets / seconds,
            "seconds": seconds,
        }
        if "correct" in metrics:
            record["accuracy"] = totals[1 + names.index("correct")] / max(targets, 1)
        return record
