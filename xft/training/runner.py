"""The runner: owns the parts of a run, and calls loop and hooks."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from xft.checkpoint import directory, model_weights, snapshot
from xft.checkpoint.checkpointer import Checkpointer
from xft.checkpoint.resume_state import ResumeState, RunState
from xft.compat.mmengine import Hook, RunnerBase
from xft.compat.peft import PeftModel
from xft.errors import CheckpointError
from xft.evaluation import EvalPrompt
from xft.export.card import write_card
from xft.loggers import Logger
from xft.models import ModelMetadata, TrainingModel, save_model, unwrap
from xft.strategies import Strategy
from xft.templates import BoundTemplate
from xft.training.loop import TrainLoop
from xft.training.resume import check_resumable, frozen_config
from xft.training.run_clock import CLOCK, RunClock
from xft.types import Sample, Tokenizer
from xft.utils import console
from xft.utils.paths import fsync_path

T = TypeVar("T")


class Runner(RunnerBase):
    """Run the loop and call the hooks.

    Attributes:
        tokenizer: tokenizer of the model.
        template: chat template; ``None`` for raw text.
        questions: sample questions.
        val_samples: validation split.
        loggers: receivers of every record.
        state: state of the hooks by name; stored in checkpoints as JSON.
        checkpointer: saves and loads checkpoints.
        clock: start and duration of the run over all of its parts.
        cleanup: callbacks that hooks register for the end of the run, even after an error.
        resume_state: state of the checkpoint being resumed; ``None`` for a new run.
        resume_command: command line that resumes the run after a signal.
    """

    resume_command = "--resume"

    def __init__(
        self,
        *,
        strategy: Strategy,
        config: Mapping[str, Any],
        hooks: Mapping[str, Hook],
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        eval_prompts: Sequence[EvalPrompt],
        val_samples: Sequence[Sample],
        model_metadata: ModelMetadata,
        model: TrainingModel,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.eval_prompts = list(eval_prompts)
        self.val_samples = val_samples
        self.loggers: list[Logger] = []
        self.state: dict[str, Any] = {}
        self.resume_state: ResumeState | None = None
        self.model_metadata = model_metadata
        self.cleanup = ExitStack()
        self.clock = RunClock()
        self._cached_static_files: dict[str, bytes] | None = None
        super().__init__(model=model, strategy=strategy, hooks=list(hooks.values()), config=config)
        self.checkpointer = Checkpointer(
            directory.checkpoints_dir(self.run_dir),
            strategy,
            self._static_files,
            self.flush_loggers,
            lambda: self.train_loop.local_state(),  # noqa: PLW0108  The loop is attached later.
        )

    @property
    def run_dir(self) -> Path:
        """The run folder."""
        return Path(self.work_dir)

    @property
    def unwrapped_model(self) -> nn.Module:
        """The transformers or peft model inside all wrappers."""
        return unwrap(self.strategy.model).model

    def attach_loop(self, loop: TrainLoop) -> None:
        """Attach a loop whose strategy is prepared."""
        self._train_loop = loop
        self.model = self.strategy.model

    def train(self, loop: TrainLoop) -> None:
        """Run a loop whose strategy is prepared from its current step to its end."""
        self.attach_loop(loop)
        try:
            with closing(loop), ExitStack() as self.cleanup:
                self.call_hook("before_run")
                loop.run()
                self.call_hook("after_run")
        finally:
            for logger in self.loggers:
                logger.close()

    def call_hook(self, fn_name: str, **kwargs: object) -> None:
        """Call a method of all hooks; call ``after_step`` after ``after_train_iter``.

        A save in ``after_step`` contains everything that the hooks of this step have written and stored,
        independent of their priority.
        """
        super().call_hook(fn_name, **kwargs)
        if fn_name == "after_train_iter":
            super().call_hook("after_step")

    def resume_from(self, state: ResumeState, loop: TrainLoop, stop_reason: str | None = None) -> None:
        """Load model, optimizer, scheduler, random number generators and position of a checkpoint.

        Args:
            state: state of the checkpoint.
            loop: loop of the resumed run.
            stop_reason: why the run is over already; ``None`` if it continues.

        Raises:
            CheckpointError: the checkpoint is broken, or belongs to another model, config or data.
        """
        check_resumable(state, self.cfg, loop.plan.fingerprint())
        loop_states = self.checkpointer.load(state)
        self.clock = RunClock.resumed(state.hooks.get(CLOCK))
        self.resume_state, self.state = state, deepcopy(state.hooks)
        loop.step = state.step
        loop.load_local_states(loop_states)
        loop.tokens_seen = state.tokens_seen
        loop.stop_reason = stop_reason

    def record(self, split: str, **metrics: object) -> None:
        """Send a record to every logger."""
        values = {"step": self.train_loop.step, "split": split, **metrics}
        for logger in self.loggers:
            logger.record(values)

    def run_state(self) -> RunState:
        """Return position and settings of the run, for a checkpoint.

        Raises:
            CheckpointError: a hook keeps a value that JSON cannot store.
        """
        loop = self.train_loop
        return RunState(
            step=loop.step,
            tokens_seen=loop.tokens_seen,
            stop_reason=loop.stop_reason,
            data_fingerprint=loop.plan.fingerprint(),
            batching=loop.plan.batching_state(),
            config=frozen_config(self.cfg),
            hooks={**self._hook_states(), CLOCK: self.clock.state()},
            loggers={type(logger).__name__: logger.checkpoint_position() for logger in self.loggers},
        )

    def flush_loggers(self) -> None:
        """Write buffered records of all loggers to the disk. Safe to call from another thread.

        Raises:
            OSError: a record cannot be written to the disk.
        """
        for logger in self.loggers:
            logger.flush()

    def rewind_loggers(self) -> None:
        """Remove records that loggers wrote after the checkpoint being resumed."""
        positions = self.resume_state.loggers if self.resume_state is not None else {}
        for logger in self.loggers:
            if (position := positions.get(type(logger).__name__)) is not None:
                logger.truncate_to_step(position)

    def _hook_states(self) -> dict[str, Any]:
        try:
            states: dict[str, Any] = json.loads(json.dumps(self.state))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"runner.state: a hook keeps a value that JSON cannot store ({error}); keep numbers, strings, lists "
                "and dicts there",
                key="runner.state",
                got=self.state,
            ) from error
        return states

    def _static_files(self) -> dict[str, bytes]:
        """Return the files of the saved model other than its weights. They do not change during a run."""
        if self._cached_static_files is None:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                self.write_artifact(
                    folder, state_dict=model_weights.placeholder_weights(self.unwrapped_model)
                )
                self._cached_static_files = {
                    file.relative_to(folder).as_posix(): file.read_bytes()
                    for file in folder.rglob("*")
                    if file.is_file() and file.suffix != ".safetensors"
                }
        return self._cached_static_files

    def set_weights_step(self, step: int) -> None:
        """Record that the live weights are those of an earlier step, for the metadata and the card of ``final/``."""
        self.model_metadata = replace(self.model_metadata, step=step)
        self._cached_static_files = None

    def write_final(
        self, verify: Callable[[Path], T], weights: Mapping[str, Tensor] | None = None
    ) -> tuple[Path, T]:
        """Write the model as it is now to ``final/``, which appears only after it is verified.

        Args:
            verify: compares a folder with the live model.
            weights: those of ``Checkpointer.full_weights`` if parameters are sharded.

        Returns:
            The folder and the result of ``verify``.
        """
        final = self.run_dir / "final"
        temporary = Path(tempfile.mkdtemp(dir=self.run_dir, prefix=".final-"))
        temporary.chmod(0o755)
        try:
            if weights is None:
                self.write_artifact(temporary)
            else:
                model_weights.make_weights_writer(self.unwrapped_model)(weights, temporary)
                snapshot.write_static_files(self._static_files(), temporary)
            self._write_card(temporary)
            result = verify(temporary)
            for path in (*temporary.rglob("*"), temporary):
                fsync_path(path)
            directory.replace_folder(temporary, final)
            return final, result
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _write_card(self, folder: Path) -> None:
        """Write the model card. Metrics that cannot be read, e.g. of a full disk, are no reason to lose the model."""
        kind = "adapter" if isinstance(self.unwrapped_model, PeftModel) else "model"
        try:
            metadata = self.model_metadata
            write_card(folder, self.run_dir, metadata.base, kind, self.run_dir.name, metadata.step)
        except CheckpointError as error:
            console.info(f"warning: no model card: {error}")

    def write_weights(self, folder: Path) -> None:
        """Write the current weights to a new folder, without the tokenizer. Collective."""
        with self.checkpointer.full_weights() as weights:
            if self.strategy.rank == 0:
                folder.mkdir(parents=True, exist_ok=True)
                model_weights.make_weights_writer(self.unwrapped_model)(weights, folder)
        if self.strategy.rank == 0:
            configs = {
                name: data for name, data in self._static_files().items() if name.endswith("config.json")
            }
            snapshot.write_static_files(configs, folder)

    def write_artifact(self, folder: Path, **options: object) -> None:
        """Write the model in the format of peft or transformers; options are for ``save_pretrained``."""
        save_model(
            cast(Any, self.unwrapped_model),
            self.tokenizer,
            self.template,
            self.model_metadata,
            folder,
            **options,
        )
