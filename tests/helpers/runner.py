"""Typed stand-ins of runner and loop for tests of hooks."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from helpers.strategies import FakeStrategy
from xft.checkpoint.resume_state import RunState
from xft.data import EpochBatchSampler
from xft.loggers import Logger
from xft.run_config.plan import TrainingPlan
from xft.strategies import Strategy
from xft.training.loop import TrainLoop
from xft.training.runner import Runner


class FakeLoop(TrainLoop):
    """A loop that stands at a step and runs none."""

    def __init__(self, strategy: Strategy, num_steps: int) -> None:
        self.strategy = strategy
        self.plan = TrainingPlan(EpochBatchSampler((1,) * num_steps), num_steps, (), "")
        self.step = 0
        self.stop_reason = None
        self.skip_nonfinite = False
        self.has_updated = True
        self.tokens_seen = 0

    def sample_origins(self, micro_batches: Any = None) -> list[str]:
        """Return the origin of one row."""
        return ["rows.jsonl:7"]


class RecordingLogger(Logger):
    """Keep everything that is logged.

    Attributes:
        records: records so far.
        answers: step and answers of each call of ``generations``.
    """

    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []
        self.answers: list[tuple[int, list[str]]] = []

    def record(self, values: Mapping[str, Any]) -> None:
        """Keep the record."""
        self.records.append(values)

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the answers."""
        self.answers.append((step, [row["answer"] for row in rows]))


class FakeRunner(Runner):
    """A runner without hooks, which keeps their calls and the records.

    Args:
        model: the live model.
        num_steps: number of steps of the run.
        lr: base learning rate.
        work_dir: run folder, for hooks that need one.

    Attributes:
        recorder: logger of the run.
        calls: name and arguments of each call of the hooks.
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
        self.cfg = Config({})
        self._hooks = []
        self.state = {}
        self.resume_state = None
        self.template = None
        self.eval_prompts = []
        self.val_samples = []
        self.recorder = RecordingLogger()
        self.loggers = [self.recorder]
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.cleanup = ExitStack()

    @property
    def unwrapped_model(self) -> nn.Module:
        """The live model."""
        return self._model

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Keep the call."""
        self.calls.append((fn_name, kwargs))

    def run_state(self) -> RunState:
        """Return the position of the run, and a copy of the state of the hooks."""
        return RunState(self._train_loop.step, 0, None, "", {}, {}, dict(self.state), {})
