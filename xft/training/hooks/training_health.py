"""Guards: what goes wrong in a training without ending it by itself is said, or ends it."""

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xft.compat.mmengine import Hook
from xft.errors import ConfigError, TrainingError
from xft.models.param_shapes import full_shape
from xft.registry import register
from xft.training.loop import shorten
from xft.utils import console

FEWEST_LOSSES = 8
"""A median of fewer losses says nothing about the next one."""
MOST_SPIKES_SAID = 5
FEWEST_MOVES = 3
"""Steps after which a weight must have moved. One is too few: with B at zero, the A of LoRA has no
gradient yet."""
MOST_ZERO_STEPS = 3


@register("hooks", "training_health")
class TrainingHealthHook(Hook):
    """Says what cannot be meant, names the rows, and stops where nothing can be learnt.

    Watched in every step: a loss or a gradient that is not finite, and a loss far above those
    before it. Watched in the first steps: a learning rate of zero, gradients of zero, and trained
    weights that do not move.

    Args:
        on_nonfinite: what becomes of a step whose loss or gradient is not finite. ``stop`` ends the
            run; ``skip`` leaves the weights as they are and goes on.
        max_skipped_steps: steps in a row that may be left out; one more ends the run.
        loss_spike_factor: a loss above this multiple of the median is said; ``None`` says none.
        loss_spike_window: how many losses before it the median is of.
        num_sanity_steps: how many steps are the first.
    """

    priority = "HIGH"

    def __init__(
        self,
        on_nonfinite: Literal["stop", "skip"] = "stop",
        max_skipped_steps: int = 3,
        loss_spike_factor: float | None = 4.0,
        loss_spike_window: int = 50,
        num_sanity_steps: int = 10,
    ) -> None:
        for name, value, least in (
            ("max_skipped_steps", max_skipped_steps, 0),
            ("loss_spike_window", loss_spike_window, FEWEST_LOSSES),
            ("num_sanity_steps", num_sanity_steps, MOST_ZERO_STEPS),
        ):
            if value < least:
                raise ConfigError(f"hooks.training_health.{name}: got {value}, expected at least {least}")
        if loss_spike_factor is not None and loss_spike_factor <= 1:
            raise ConfigError(
                f"hooks.training_health.loss_spike_factor: got {loss_spike_factor}, expected more than 1, or None"
            )
        self.on_nonfinite = on_nonfinite
        self.max_skipped_steps = max_skipped_steps
        self.loss_spike_factor = loss_spike_factor
        self.loss_spike_window = loss_spike_window
        self.num_sanity_steps = num_sanity_steps

    def before_run(self, runner: Any) -> None:
        """Take up where a resumed run was."""
        fresh: dict[str, Any] = {"skipped": 0, "in_a_row": 0, "spikes": 0, "losses": []}
        self._state: dict[str, Any] = runner.state.setdefault("training_health", fresh)
        self._zero_rates = self._zero_gradients = 0
        self._moves: Moves | None = None

    def before_train(self, runner: Any) -> None:
        """See that something is trained, and remember where it begins.

        Raises:
            TrainingError: nothing is.
        """
        model, loop = runner.unwrapped_model, runner.train_loop
        if not any(each.requires_grad for each in model.parameters()):
            raise TrainingError("no weight is trained; give the model an adapter, or set adapter=None")
        if loop.step == 0:
            strategy = loop.strategy
            # The rate that is recorded, which is that of the first group.
            self._moves = Moves(
                model, strategy.lr_scheduler.base_lrs[0], self.num_sanity_steps, strategy.local_view
            )

    def after_nonfinite(self, runner: Any, reason: str, rows: list[str]) -> None:
        """Leave a step out, where the config wants that.

        Raises:
            TrainingError: too many in a row were left out.
        """
        if self.on_nonfinite == "stop":
            return
        state, step = self._state, runner.train_loop.step + 1
        if state["in_a_row"] >= self.max_skipped_steps:
            raise TrainingError(
                f"step {step}: {reason} (rows: {shorten(rows)}), after {state['in_a_row']} steps in a row that were "
                "left out for the like; lower optimizer.lr, or raise hooks.training_health.max_skipped_steps"
            )
        state["in_a_row"] += 1
        state["skipped"] += 1
        console.info(
            f"warning: step {step} is left out: {reason} (rows: {shorten(rows)}); {state['skipped']} left out so far"
        )
        runner.train_loop.forgiven = True

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Judge a step.

        Raises:
            TrainingError: nothing can be learnt.
        """
        if outputs.get("skipped"):
            return
        self._state["in_a_row"] = 0
        self._watch_spikes(runner, outputs["loss"])
        if runner.train_loop.step <= self.num_sanity_steps:
            self._watch_rate(runner, outputs["lr"])
            self._watch_gradient(runner, outputs["grad_norm"])
        if self._moves is not None and self._moves.is_due(outputs["lr"]):
            self._say_moves()

    def after_train(self, runner: Any) -> None:
        """Say at the end what a short run gave no time for."""
        if self._moves is not None and self._moves.steps >= FEWEST_MOVES:
            self._say_moves()
        if self._state["skipped"]:
            console.info(f"warning: {self._state['skipped']} steps of this run were left out")

    def _watch_spikes(self, runner: Any, loss: float) -> None:
        state, before = self._state, self._state["losses"]
        if self.loss_spike_factor is not None and len(before) >= FEWEST_LOSSES:
            usual = median(before)
            if usual > 0 and loss > self.loss_spike_factor * usual:
                state["spikes"] += 1
                self._say_spike(runner, loss, usual)
        state["losses"] = [*before, loss][-self.loss_spike_window :]

    def _say_spike(self, runner: Any, loss: float, usual: float) -> None:
        if self._state["spikes"] > MOST_SPIKES_SAID:
            return
        last = "; spikes after this one are not said" if self._state["spikes"] == MOST_SPIKES_SAID else ""
        loop = runner.train_loop
        console.info(
            f"warning: the loss of step {loop.step} is {loss:.3g}, {loss / usual:.1f} times the usual {usual:.3g} "
            f"(rows: {shorten(loop.rows())}){last}"
        )

    def _watch_rate(self, runner: Any, rate: float) -> None:
        loop = runner.train_loop
        self._zero_rates += rate == 0
        steps = min(self.num_sanity_steps, loop.plan.num_steps)
        if loop.step == steps == self._zero_rates:
            console.info(
                f"warning: the learning rate was 0 in the first {steps} steps, which taught nothing; look at "
                "optimizer.lr and lr_scheduler.warmup_steps"
            )

    def _watch_gradient(self, runner: Any, norm: float) -> None:
        self._zero_gradients = self._zero_gradients + 1 if norm == 0 else 0
        step = runner.train_loop.step
        if self._zero_gradients == MOST_ZERO_STEPS:
            raise TrainingError(
                f"the gradients of {MOST_ZERO_STEPS} steps in a row (the last is step {step}) are all zero: nothing "
                "can be learnt; the objective does not reach the trained weights, or nothing in the rows is trained"
            )
        if self._zero_gradients == 1:
            console.info(f"warning: the gradients of step {step} are all zero")

    def _say_moves(self) -> None:
        assert self._moves is not None
        if line := self._moves.verdict():
            console.info(f"warning: {line}")
        self._moves = None


class Moves:
    """Which trained weights have changed since the beginning.

    Of each tensor, some numbers are remembered, not the whole. Embeddings are left out: a row whose
    token has not come up yet does not move.

    Args:
        model: that is about to be trained.
        rate: the highest learning rate. Steps of a warm-up, below half of it, do not count.
        enough: how many steps count.
        sample: gives numbers of a weight that this rank has, where it does not have all of them.
    """

    def __init__(
        self,
        model: nn.Module,
        rate: float,
        enough: int,
        sample: Callable[[nn.Parameter], Tensor] = lambda weight: weight,
    ) -> None:
        self.steps = 0
        self._model = model
        self._rate = rate
        self._enough = enough
        self._sample = sample
        self._before = {name: some_of(sample(each)) for name, each in _trained(model)}

    def is_due(self, rate: float) -> bool:
        """Count a step that was taken at ``rate``; whether there are enough."""
        self.steps += rate > 0 and rate >= self._rate / 2
        return self.steps >= self._enough

    def verdict(self) -> str | None:
        """What is to be said; ``None`` where every tensor has moved."""
        still = [
            (name, each.dtype)
            for name, each in _trained(self._model)
            if name in self._before and torch.equal(some_of(self._sample(each)), self._before[name])
        ]
        if not still:
            return None
        name, dtype = still[0]
        share = "none" if len(still) == len(self._before) else f"{len(still)}"
        verb = "has" if share == "none" else "have not"
        return (
            f"{share} of the {len(self._before)} trained tensors {verb} moved in {self.steps} steps at or near the "
            f"full learning rate (such as {name}, {str(dtype).removeprefix('torch.')}): steps that are too small "
            "for the type of a weight are lost, and a part that no gradient reaches learns nothing; raise optimizer.lr"
        )


def some_of(weight: Tensor, most: int = 256) -> Tensor:
    """A copy of up to ``most`` numbers of a tensor, evenly spread."""
    flat = weight.detach().reshape(-1)
    return flat[:: max(1, len(flat) // most)][:most].clone()


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    embeddings = {
        id(each)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for each in module.parameters(recurse=False)
    }
    for name, each in model.named_parameters():
        if each.requires_grad and full_shape(each).numel() and id(each) not in embeddings:
            yield name, each
