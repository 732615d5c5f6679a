"""The runner: MMEngine's, given objects that are built already."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
        loggers: Sequence[Logger],
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
        self.loggers = list(loggers)
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
        self.resumed = self.strategy.resume(str(folder))
        if self.resumed["data"] != loop.plan.fingerprint():
            raise CheckpointError(
                f"{folder}: was trained on other data, or in portions of another size, so its place in the "
                "data is not known; start a new run with model.path or an adapter, or restore data and training"
            )
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

    def write_final(self) -> Path:
        """Write ``final/``: the model as it is now."""
        final = self.work_folder / "final"
        temporary = Path(tempfile.mkdtemp(dir=self.work_folder, prefix=".final-"))
        temporary.chmod(0o755)
        self.write_artifact(temporary)
        checkpoint.publish(temporary, final)
        return final

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
