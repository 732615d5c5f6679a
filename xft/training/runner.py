"""The runner: MMEngine's, given objects that are built already."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

from mmengine.config import Config
from torch import Tensor, nn

from xft.checkpoint import directory, manifest, model_weights, snapshot
from xft.checkpoint.shards import Share, take_share
from xft.checkpoint.state_tree import random_state
from xft.compat.mmengine import FlexibleRunner, Hook, Visualizer
from xft.errors import CheckpointError
from xft.evaluation import Question
from xft.loggers import Logger
from xft.models import ModelMetadata, TrainingModel, save_model, unwrap
from xft.strategies import SingleDevice
from xft.templates import BoundTemplate
from xft.training.loop import TrainLoop
from xft.training.resume import FREE, differences, fixed, stop_reason
from xft.types import Sample, Tokenizer

T = TypeVar("T")


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
        state: what hooks keep in checkpoints, by name; what JSON can hold.
        cleanup: what hooks want done when the run has ended, in whatever way.
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
        note: ModelMetadata,
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
        self.cleanup = ExitStack()
        self._copied: snapshot.Snapshot | None = None
        self._share: Share | None = None
        self._kept_parts: dict[str, bytes] | None = None
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
        return unwrap(self.strategy.model).model

    def take(self, loop: TrainLoop) -> None:
        """Take over a loop whose strategy is prepared."""
        self._train_loop = loop
        self.model = self.strategy.model

    def train(self, loop: TrainLoop) -> None:
        """Run a loop whose strategy is prepared, from where it stands to its end."""
        self.take(loop)
        try:
            with ExitStack() as self.cleanup:
                self.call_hook("before_run")
                loop.run()
                self.call_hook("after_run")
        finally:
            for each in self.loggers:
                each.close()

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks; after the last of a step, ``after_step``.

        What is saved in ``after_step`` holds all that the hooks of this step have written and
        remembered, whatever their priority.
        """
        super().call_hook(fn_name, **kwargs)
        if fn_name == "after_train_iter":
            super().call_hook("after_step")

    def go_on_from(self, folder: Path, loop: TrainLoop) -> None:
        """Put model, optimizer, schedule, random numbers and the loop where a checkpoint was.

        Raises:
            CheckpointError: it is broken, or of another model or other data.
        """
        said = snapshot.read_state(folder)
        same = said["data_fingerprint"] == loop.plan.fingerprint()
        changed = differences(said.get("config"), fixed(self.cfg))
        # With other ranks, a step that stays what it was is accumulated of more or fewer portions.
        if changed := [
            each
            for each in changed
            if not (same and each.startswith("training.gradient_accumulation_steps "))
        ]:
            raise CheckpointError(
                f"{folder}: the config is not that of the checkpoint ({'; '.join(changed)}); a resumed run may "
                f"change {FREE}"
            )
        if not same:
            raise CheckpointError(
                f"{folder}: was trained on other data, or in portions of another size, so its place in the "
                "data is not known; start a new run with model.path or an adapter, or restore data and training"
            )
        self.resumed = snapshot.put_back(folder, self.strategy)
        self.state = self.resumed["hooks"]
        loop.step = self.resumed["step"]
        loop.tokens_seen = self.resumed["tokens_seen"]
        loop.stop_reason = stop_reason(self.resumed, self.hooks)

    def record(self, split: str, **figures: Any) -> None:
        """Send a record to every logger."""
        values = {"step": self.train_loop.step, "split": split, **figures}
        for each in self.loggers:
            each.record(values)

    def snapshot(self, optimizer: bool = True) -> snapshot.Snapshot | Share | None:
        """Copy the training as it is now into the memory of the host. All ranks must call it.

        The memory of the copy before is written over: it must have been saved by now.

        Args:
            optimizer: whether the state of the optimizer is copied too.

        Returns:
            The copy on the first rank; on the others their share of it, ``None`` where they have none.

        Raises:
            CheckpointError: a hook remembers something that JSON cannot hold.
        """
        strategy = self.strategy
        ranks = strategy.gather(random_state(strategy.device))
        loop, before = self.train_loop, self._copied
        reuse = {name: each for had in (before, self._share) if had for name, each in had.tensors.items()}
        training, tensors, own = snapshot.take_training(strategy, ranks, optimizer, reuse)
        self._share, places = take_share(strategy, loop.step, own)
        copied = self.copy_weights(before.weights if before is not None else {})
        if strategy.rank != 0:
            return self._share
        state = {
            "step": loop.step,
            "tokens_seen": loop.tokens_seen,
            "stop_reason": loop.stop_reason,
            "data_fingerprint": loop.plan.fingerprint(),
            "batching": loop.plan.portions(),
            "config": fixed(self.cfg),
            "hooks": self._remembered(),
            "loggers": {type(each).__name__: each.position() for each in self.loggers},
            "training": training,
            "shards": places,
        }
        writer = model_weights.weights_writer(self.bare_model)
        parts = self._parts()
        self._copied = snapshot.Snapshot(loop.step, state, tensors, copied, parts, writer, self._share)
        return self._copied

    def copy_weights(self, reuse: Mapping[str, Tensor] = MappingProxyType({})) -> dict[str, Tensor]:
        """Copy what a saved model holds into the memory of the host, on the first rank. All ranks must
        call it where they share weights out."""
        strategy = self.strategy
        if strategy.rank != 0 and not strategy.together:
            return {}
        return model_weights.copy_weights(
            self.bare_model, reuse, strategy.gathered, keep=strategy.rank == 0
        )

    def checkpoint_size(self, optimizer: bool = True) -> int:
        """Bytes that a checkpoint will take, nearly, before the first one is taken."""
        return model_weights.estimate(self.bare_model, optimizer) + sum(map(len, self._parts().values()))

    def flush_loggers(self) -> None:
        """Put what the loggers have written on the disk. May be called from another thread.

        Raises:
            OSError: the disk does not take it.
        """
        for each in self.loggers:
            each.flush()

    def rewind_loggers(self) -> None:
        """Take away what loggers wrote after the checkpoint that the run goes on from."""
        positions = self.resumed.get("loggers", {})
        for each in self.loggers:
            if (position := positions.get(type(each).__name__)) is not None:
                each.rewind(position)

    def _remembered(self) -> dict[str, Any]:
        try:
            copied: dict[str, Any] = json.loads(json.dumps(self.state))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"a hook keeps something in runner.state that JSON cannot hold ({error}); keep numbers, texts, "
                "lists and dicts there"
            ) from error
        return copied

    def _parts(self) -> dict[str, bytes]:
        """The files of the saved model but for its weights. They do not change in a run."""
        if self._kept_parts is None:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                self.write_artifact(folder, state_dict=model_weights.placeholders(self.bare_model))
                self._kept_parts = {
                    each.relative_to(folder).as_posix(): each.read_bytes()
                    for each in folder.rglob("*")
                    if each.is_file() and each.suffix != ".safetensors"
                }
        return self._kept_parts

    def write_final(
        self, verify: Callable[[Path], T], copied: Mapping[str, Tensor] | None = None
    ) -> tuple[Path, T]:
        """Write ``final/``: the model as it is now, proven before it gets that name.

        Args:
            verify: compares a folder with the live model.
            copied: of ``copy_weights``, where ranks share the weights out.

        Returns:
            The folder, and what ``verify`` found.
        """
        final = self.work_folder / "final"
        temporary = Path(tempfile.mkdtemp(dir=self.work_folder, prefix=".final-"))
        temporary.chmod(0o755)
        try:
            if copied is None:
                self.write_artifact(temporary)
            else:
                model_weights.weights_writer(self.bare_model)(copied, temporary)
                snapshot.write_parts(self._parts(), temporary)
            found = verify(temporary)
            for each in (*temporary.rglob("*"), temporary):
                manifest.flush(each)
            directory.publish(temporary, final)
            return final, found
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def write_artifact(self, folder: Path, **options: Any) -> None:
        """Write the model as plain ``peft`` or ``transformers`` reads it; options are for ``save_pretrained``."""
        save_model(cast(Any, self.bare_model), self.tokenizer, self.template, self.note, folder, **options)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """A visualizer without back ends: figures go through ``loggers``."""
        return Visualizer.get_instance(self.experiment_name, vis_backends=None)

    def dump_config(self) -> None:
        """Nothing: the resolved config is written before the runner exists."""

    def _log_env(self) -> None:
        self.logger.info(json.dumps(dict(self.cfg), default=str))
