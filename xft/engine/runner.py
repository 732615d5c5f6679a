"""The runner: MMEngine's, given objects that are built already."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner
from mmengine.visualization import Visualizer
from torch import nn

from xft.engine import checkpoint
from xft.engine.loggers import Logger
from xft.engine.loop import TrainLoop
from xft.engine.strategies import SingleDevice, unwrap
from xft.errors import CheckpointError
from xft.evaluation import Question
from xft.models import Note, TrainingModel, save_artifact
from xft.templates import BoundTemplate
from xft.types import Sample, Tokenizer

T = TypeVar("T")

FREE_TO_CHANGE = ("hooks", "loggers", "questions", "work_dir", "strategy")
"""Keys of a config that a resumed run may have otherwise. ``training.epochs``, ``training.steps``
and ``data.path`` are three more."""


class Runner(FlexibleRunner):
    """Runs the loop and calls the hooks.

    MMEngine's runner would build everything from dicts, keep its own logs and checkpoints and
    write a table of hooks to the terminal. Here it receives objects, and what it says of itself
    goes to ``train.log``.

    Attributes:
        tokenizer: the model's.
        template: the chat template; ``None`` for raw text.
        questions: the sample questions.
        val_samples: the validation split.
        loggers: receive every record.
        state: what hooks keep in checkpoints, by name.
        resumed: what the checkpoint that the run went on from said; empty for a new run.
    """

    def __init__(
        self,
        *,
        strategy: SingleDevice,
        config: Mapping[str, Any],
        hooks: Mapping[str, Hook],
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        questions: Sequence[Question],
        val_samples: Sequence[Sample],
        note: Note,
        model: TrainingModel,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.questions = list(questions)
        self.val_samples = val_samples
        self.loggers: list[Logger] = []
        self.state: dict[str, Any] = {}
        self.resumed: dict[str, Any] = {}
        self.note = note
        standard = (
            "runtime_info",
            "timer",
            "sampler_seed",
            "logger",
            "param_scheduler",
            "checkpoint",
        )
        super().__init__(
            model=model,
            work_dir=strategy.work_dir,
            strategy=strategy,
            default_hooks=dict.fromkeys(standard),
            custom_hooks=list(hooks.values()),
            launcher=strategy.launcher,
            cfg=Config(dict(config)),
        )

    @property
    def work_folder(self) -> Path:
        """The run folder."""
        return Path(self.work_dir)

    @property
    def bare_model(self) -> nn.Module:
        """The transformers or peft model inside all wrappers."""
        inner = unwrap(self.strategy.model)
        assert isinstance(inner, TrainingModel)
        return inner.model

    def train(self, loop: TrainLoop) -> None:
        """Run a loop whose strategy is prepared, from where it stands to its end."""
        self._train_loop = loop
        self.model = self.strategy.model
        try:
            self.call_hook("before_run")
            loop.run()
            self.call_hook("after_run")
        finally:
            for each in self.loggers:
                each.close()

    def go_on_from(self, folder: Path, loop: TrainLoop) -> None:
        """Put model, optimizer, schedule, random numbers and the loop where a checkpoint was.

        Raises:
            CheckpointError: it is broken, or of another model or other data.
        """
        said = checkpoint.read_extra(folder)
        if changed := _differences(said.get("config"), _fixed(self.cfg)):
            raise CheckpointError(
                f"{folder}: the config is not that of the checkpoint ({'; '.join(changed)}); a resumed run may "
                f"change {', '.join(FREE_TO_CHANGE)}, data.path, training.epochs and training.steps"
            )
        if said.get("data") != loop.plan.fingerprint():
            raise CheckpointError(
                f"{folder}: was trained on other data, or in portions of another size, so its place in the "
                "data is not known; start a new run with model.path or an adapter, or restore data and training"
            )
        self.resumed = self.strategy.resume(str(folder))
        self.state = self.resumed["hooks"]
        loop.step = self.resumed["step"]
        loop.tokens_seen = self.resumed["tokens_seen"]

    def record(self, split: str, **figures: Any) -> None:
        """Send a record to every logger."""
        values = {"step": self.train_loop.step, "split": split, **figures}
        for each in self.loggers:
            each.record(values)

    def save(self, step: int, extra: Mapping[str, Any]) -> Path:
        """Write a checkpoint under a temporary name and rename it.

        Args:
            step: of the run.
            extra: what is remembered beside the runner's own state.

        Returns:
            The checkpoint's folder.
        """
        root = checkpoint.folder_of(self.work_folder)
        final = root / f"step_{step}"
        temporary = root / f".step_{step}.saving"
        loop = self.train_loop
        state = {
            "step": step,
            "tokens_seen": loop.tokens_seen,
            "data": loop.plan.fingerprint(),
            "config": _fixed(self.cfg),
            "hooks": self.state,
            **extra,
        }
        if self.strategy.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            self.write_artifact(temporary)
        self.strategy.barrier()
        self.strategy.save_checkpoint(str(temporary), extra=state)
        self.strategy.barrier()
        if self.strategy.rank == 0:
            checkpoint.publish(temporary, final)
        self.strategy.barrier()
        self.call_hook("after_save", folder=final)
        return final

    def write_final(self, verify: Callable[[Path], T]) -> tuple[Path, T]:
        """Write ``final/``: the model as it is now, proven before it gets that name.

        Args:
            verify: compares a folder with the live model.

        Returns:
            The folder, and what ``verify`` found.
        """
        final = self.work_folder / "final"
        temporary = Path(tempfile.mkdtemp(dir=self.work_folder, prefix=".final-"))
        temporary.chmod(0o755)
        try:
            self.write_artifact(temporary)
            found = verify(temporary)
            checkpoint.publish(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return final, found

    def write_artifact(self, folder: Path) -> None:
        """Write the model as plain ``peft`` or ``transformers`` reads it."""
        model: Any = self.bare_model
        save_artifact(model, self.tokenizer, self.template, self.note, folder)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """A visualizer without back ends: figures go through ``loggers``."""
        return Visualizer.get_instance(self.experiment_name, vis_backends=None)

    def dump_config(self) -> None:
        """Nothing: the resolved config is written before the runner exists."""

    def _log_env(self) -> None:
        self.logger.info(json.dumps(dict(self.cfg), default=str))


def _fixed(config: Any) -> dict[str, Any]:
    """What must stay as it is in a resumed run, as JSON has it."""
    values = {key: value for key, value in config.to_dict().items() if key not in FREE_TO_CHANGE}
    # Where the rows lie may change; that they are the same rows, the fingerprint says.
    values["data"] = {key: each for key, each in values["data"].items() if key != "path"}
    training = values.get("training", {})
    values["training"] = {key: each for key, each in training.items() if key not in ("epochs", "steps")}
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _differences(before: Any, after: Any, path: str = "") -> list[str]:
    """What changed between two configs: ``optimizer.lr was 0.01, is 0.001``."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted({*before, *after})
            for line in _differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if before == after else [f"{path} was {before!r}, is {after!r}"]
