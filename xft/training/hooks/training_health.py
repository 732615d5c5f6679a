"""Detection of trainings that cannot succeed: non-finite losses, loss spikes, and no learning."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from xft.errors import TrainingError
from xft.models.param_shapes import full_shape
from xft.registry import register
from xft.training.finite_checks import check_trained_weights, check_validation_loss
from xft.training.hooks.base import Hook
from xft.training.loop import abbreviate
from xft.training.rollout_health import check_rollouts, new_rollout_health
from xft.training.runner import Runner
from xft.types import Batch
from xft.types.ranges import CountOrZero
from xft.utils import console

MIN_LOSSES = 8
"""Number of losses below which their median is not compared with the next loss."""
MAX_SPIKE_WARNINGS = 5
"""Number of loss spikes after which no further warnings are logged."""
MIN_OBSERVATIONS = 3
"""Steps after which a parameter must have changed. Why not one: with B at zero, the A of LoRA has no
gradient in the first step."""
MAX_ZERO_GRAD_STEPS = 3
"""Consecutive steps with zero gradients that end the run."""


@register("hooks", "training_health")
class TrainingHealthHook(Hook):
    """Detect non-finite losses, loss spikes and runs that do not learn; report the rows involved.

    Checked in every step: a non-finite loss or gradient norm, and a loss far above the median; in reinforcement
    learning, signs of a hacked reward, a collapsed entropy, and rewards without spread.
    Checked in the first steps: a learning rate of zero, zero gradients, and trainable parameters that
    do not change.

    Args:
        on_nonfinite: reaction to a non-finite loss or gradient norm. ``stop`` ends the run; ``skip``
            leaves the parameters unchanged and continues.
        max_skipped_steps: maximum number of consecutive skipped steps; one more ends the run.
        loss_spike_factor: multiple of the median loss above which a warning is logged; ``None`` logs none.
        loss_spike_window: number of preceding losses in the median.
        num_sanity_steps: number of first steps that are checked for learning.
    """

    priority = "HIGH"

    def __init__(
        self,
        on_nonfinite: Literal["stop", "skip"] = "stop",
        max_skipped_steps: CountOrZero = 3,
        loss_spike_factor: Annotated[float, Interval(gt=1, le=10**9)] | None = 4.0,
        loss_spike_window: Annotated[int, Interval(ge=MIN_LOSSES, le=10**9)] = 50,
        num_sanity_steps: Annotated[int, Interval(ge=MAX_ZERO_GRAD_STEPS, le=10**9)] = 10,
    ) -> None:
        self.on_nonfinite = on_nonfinite
        self.max_skipped_steps = max_skipped_steps
        self.loss_spike_factor = loss_spike_factor
        self.loss_spike_window = loss_spike_window
        self.num_sanity_steps = num_sanity_steps

    def before_run(self, runner: Runner) -> None:
        """Restore the state of a resumed run."""
        fresh: dict[str, Any] = {"skipped": 0, "in_a_row": 0, "spikes": 0, "losses": []}
        self._state: dict[str, Any] = runner.state.setdefault("training_health", fresh)
        self._rollouts = self._state.setdefault("rollouts", new_rollout_health())
        self._zero_lr_steps = self._zero_grad_steps = 0
        self._updates: ParameterUpdateMonitor | None = None

    def before_train(self, runner: Runner) -> None:
        """Check that there are trainable parameters, and remember their initial values.

        Raises:
            TrainingError: there are none.
        """
        model, loop = runner.unwrapped_model, runner.train_loop
        if not any(param.requires_grad for param in model.parameters()):
            raise TrainingError(
                key="adapter",
                expected="trainable parameters",
                fix="give the model an adapter, or set adapter=None for full fine-tuning",
            )
        if loop.step == 0:
            strategy = loop.strategy
            # The rate that is recorded is that of the first parameter group.
            self._updates = ParameterUpdateMonitor(
                model, strategy.lr_scheduler.base_lrs[0], self.num_sanity_steps, strategy.local_view
            )

    def after_nonfinite(self, runner: Runner, reason: str, rows: Sequence[str]) -> None:
        """Skip the step if the config allows it.

        Raises:
            TrainingError: too many consecutive steps were skipped.
        """
        if self.on_nonfinite == "stop":
            return
        state, step = self._state, runner.train_loop.step + 1
        if state["in_a_row"] >= self.max_skipped_steps:
            raise TrainingError(
                f"step {step}: {reason} (rows: {abbreviate(rows)}), after {state['in_a_row']} consecutive skipped "
                "steps; lower optimizer.lr, or raise hooks.training_health.max_skipped_steps",
                key="hooks.training_health.max_skipped_steps",
                got=state["in_a_row"] + 1,
            )
        state["in_a_row"] += 1
        state["skipped"] += 1
        console.info(
            f"warning: skipped step {step}: {reason} (rows: {abbreviate(rows)}); "
            f"{_count_steps(state['skipped'])} skipped so far"
        )
        runner.train_loop.skip_nonfinite = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Sequence[Batch], outputs: Mapping[str, float]
    ) -> None:
        """Check a step.

        Raises:
            TrainingError: the model cannot learn, since its gradients are zero.
        """
        if outputs.get("skipped"):
            return
        self._state["in_a_row"] = 0
        # The loss of reinforcement learning is near 0, and its gradient is 0 if the rewards of each group are equal.
        if "reward" not in outputs:
            self._check_spike(runner, outputs["loss"])
        if "rollout_seconds" in outputs:
            for warning in check_rollouts(self._rollouts, outputs):
                console.info(f"warning: {warning}")
        if runner.train_loop.step <= self.num_sanity_steps:
            self._check_learning_rate(runner, outputs["lr"])
            if outputs.get("frac_reward_zero_std", 0) < 1:
                self._check_gradient(runner, outputs["grad_norm"])
        if self._updates is not None and self._updates.is_due(outputs["lr"]):
            self._warn_frozen()

    def after_validation(self, runner: Runner, metrics: Mapping[str, float]) -> None:
        """Check the loss on the validation split; with ``skip``, a warning replaces the error.

        Raises:
            TrainingError: it is not finite.
        """
        if "loss" not in metrics:
            return
        try:
            check_validation_loss(metrics["loss"], runner.train_loop.step)
        except TrainingError as error:
            if self.on_nonfinite == "stop":
                raise
            console.info(f"warning: {error}")

    def before_save(self, runner: Runner, step: int) -> None:
        """Check the trained weights: a checkpoint with NaN is of no use. Collective.

        Raises:
            TrainingError: a weight is not finite.
        """
        check_trained_weights(runner.unwrapped_model, runner.strategy, step)

    def after_train(self, runner: Runner) -> None:
        """Report at the end of a short run what its steps gave no time for."""
        if self._updates is not None and self._updates.steps >= MIN_OBSERVATIONS:
            self._warn_frozen()
        if self._state["skipped"]:
            console.info(f"warning: {_count_steps(self._state['skipped'])} of this run skipped")

    def _check_spike(self, runner: Runner, loss: float) -> None:
        state, losses = self._state, self._state["losses"]
        if self.loss_spike_factor is not None and len(losses) >= MIN_LOSSES:
            usual = median(losses)
            if usual > 0 and loss > self.loss_spike_factor * usual:
                state["spikes"] += 1
                self._warn_spike(runner, loss, usual)
        state["losses"] = [*losses, loss][-self.loss_spike_window :]

    def _warn_spike(self, runner: Runner, loss: float, usual: float) -> None:
        spikes = self._state["spikes"]
        if spikes > MAX_SPIKE_WARNINGS:
            return
        last = "; further spikes are not reported" if spikes == MAX_SPIKE_WARNINGS else ""
        loop = runner.train_loop
        console.info(
            f"warning: loss spike at step {loop.step}: {loss:.3g} ({loss / usual:.1f}× the median {usual:.3g}; "
            f"rows: {abbreviate(loop.sample_origins())}){last}"
        )

    def _check_learning_rate(self, runner: Runner, lr: float) -> None:
        loop = runner.train_loop
        self._zero_lr_steps += lr == 0
        steps = min(self.num_sanity_steps, loop.plan.num_steps)
        if loop.step == steps == self._zero_lr_steps:
            console.info(
                f"warning: learning rate is 0 for the first {steps} steps; check optimizer.lr and the warm-up of "
                "lr_scheduler"
            )

    def _check_gradient(self, runner: Runner, norm: float) -> None:
        self._zero_grad_steps = self._zero_grad_steps + 1 if norm == 0 else 0
        step = runner.train_loop.step
        if self._zero_grad_steps == MAX_ZERO_GRAD_STEPS:
            raise TrainingError(
                f"the gradients of {MAX_ZERO_GRAD_STEPS} consecutive steps up to step {step} are zero, so the model "
                "cannot learn; check that the objective reaches the trainable parameters, and that rows have targets",
                key="grad_norm",
                got=0.0,
            )
        if self._zero_grad_steps == 1:
            console.info(f"warning: all gradients of step {step} are zero")

    def _warn_frozen(self) -> None:
        assert self._updates is not None
        if diagnosis := self._updates.diagnose():
            console.info(f"warning: {diagnosis}")
        self._updates = None


class ParameterUpdateMonitor:
    """Find trainable parameters that have not changed since the start.

    A subsample of each tensor is remembered. Embeddings are excluded: a row does not change before
    its token occurs.

    Args:
        model: model before its first step.
        max_lr: highest learning rate. Steps below half of it, as in a warm-up, are not counted.
        num_steps: number of steps to count.
        local_view: returns the values of a parameter that this rank holds, if parameters are sharded.
    """

    def __init__(
        self,
        model: nn.Module,
        max_lr: float,
        num_steps: int,
        local_view: Callable[[nn.Parameter], Tensor] = lambda param: param,
    ) -> None:
        self.steps = 0
        self._model = model
        self._max_lr = max_lr
        self._num_steps = num_steps
        self._local_view = local_view
        self._initial = {name: subsample(local_view(param)) for name, param in _monitored(model)}

    def is_due(self, lr: float) -> bool:
        """Count a step at learning rate ``lr``, and return whether enough steps are counted."""
        self.steps += lr > 0 and lr >= self._max_lr / 2
        return self.steps >= self._num_steps

    def diagnose(self) -> str | None:
        """Describe the parameters that have not changed; ``None`` if all have."""
        unchanged = [
            (name, param.dtype)
            for name, param in _monitored(self._model)
            if name in self._initial
            and torch.equal(subsample(self._local_view(param)), self._initial[name])
        ]
        if not unchanged:
            return None
        name, dtype = unchanged[0]
        return (
            f"{len(unchanged)} of {len(self._initial)} trainable tensors have not changed in {self.steps} steps at or "
            f"near the full learning rate (such as {name}, {str(dtype).removeprefix('torch.')}): updates below the "
            "precision of the dtype are lost, and parameters without a gradient do not learn; raise optimizer.lr"
        )


def subsample(tensor: Tensor, max_values: int = 256) -> Tensor:
    """Copy up to ``max_values`` evenly spaced values of a tensor, flattened."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, len(flat) // max_values)][:max_values].clone()


def _monitored(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    embeddings = {
        id(param)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for param in module.parameters(recurse=False)
    }
    for name, param in model.named_parameters():
        if param.requires_grad and full_shape(param).numel() and id(param) not in embeddings:
            yield name, param


def _count_steps(count: int) -> str:
    return f"{count} step{'s' if count != 1 else ''}"
