"""Typed stand-ins of runner and loop for tests of hooks."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from helpers.strategies import FakeStrategy
from xft.data import EpochBatchSampler
from xft.run_config.plan import TrainingPlan
from xft.strategies import SingleDevice
from xft.training.loop import TrainLoop
from xft.training.runner import Runner


class FakeLoop(TrainLoop):
    """A loop that stands at a step and runs none."""

    def __init__(self, strategy: SingleDevice, num_steps: int) -> None:
        self.strategy = strategy
        self.plan = TrainingPlan(EpochBatchSampler((1,) * num_steps), num_steps, (), "")
        self.step = 0
        self.stop_reason = None
        self.skip_nonfinite = False

    def sample_origins(self, micro_batches: Any = None) -> list[str]:
        """Return the origin of one row."""
        return ["rows.jsonl:7"]


class FakeRunner(Runner):
    """A runner that calls no hooks.

    Args:
        model: the live model.
        num_steps: number of steps of the run.
        lr: base learning rate.
        work_dir: run folder, for hooks that need one.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        num_steps: int = 100,
        lr: float = 1.0,
        work_dir: Path | None = None,
    ) -> None:
        self._model = model if model is not None else nn.Linear(4, 4)
        self.strategy = FakeStrategy(lr=lr)
        self._train_loop = FakeLoop(self.strategy, num_steps)
        self._work_dir = str(work_dir)
        self.state = {}
        self.loggers = []
        self.cleanup = ExitStack()

    @property
    def unwrapped_model(self) -> nn.Module:
        """The live model."""
        return self._model
