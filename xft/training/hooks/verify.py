"""What is saved is what was trained: shown by a process that loads it anew."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from xft.compat.mmengine import Hook
from xft.errors import CheckpointError, ConfigError
from xft.export.verify import (
    Comparison,
    ReferenceOutputs,
    VerificationSkipped,
    VerifySubprocess,
    check_result,
    inspect_in_process,
    logit_tolerance,
    make_request,
    reference_outputs,
    verification_device,
    verify_saved_model,
)
from xft.export.verify.adapter_norms import summarize_norms
from xft.registry import register
from xft.utils import console

PREFIX = ".verify-"


@register("hooks", "verify")
class VerifyHook(Hook):
    """Reloads the first checkpoint and the last model, and compares them with the live one.

    The logits that are expected are taken at the moment of the save. The first checkpoint is
    looked at beside the training; if it is not what was trained, the run ends.

    Args:
        mode: ``subprocess`` loads in a fresh process, which can have nothing from this one but what is
            in the folder; ``in_process`` loads in this one, some seconds faster, while training waits.
        timeout_minutes: how long the fresh process may take.
    """

    priority = "LOWEST"

    def __init__(
        self, mode: Literal["subprocess", "in_process"] = "subprocess", timeout_minutes: float = 30
    ) -> None:
        if timeout_minutes <= 0:
            raise ConfigError(f"hooks.verify.timeout_minutes: got {timeout_minutes}, expected more than 0")
        self.mode = mode
        self.timeout = 60.0 * timeout_minutes

    def before_run(self, runner: Any) -> None:
        """Begin with nothing verified yet."""
        self._verified = runner.strategy.rank != 0
        self._taken: tuple[int, ReferenceOutputs] | None = None
        self._process: VerifySubprocess | None = None
        self._copy: Path | None = None
        self._tolerance = 0.0
        if runner.strategy.rank == 0:
            for left in runner.run_dir.glob(f"{PREFIX}*"):  # by a run that was killed
                shutil.rmtree(left, ignore_errors=True)
        runner.cleanup.callback(self._end)

    def before_save(self, runner: Any, step: int) -> None:
        """Take the logits that the checkpoint of this step must give."""
        strategy = runner.strategy
        wanted_here = not self._verified and self._process is None
        # Where ranks share weights out, all must help the first one.
        if strategy.reduce_sum([wanted_here])[0] if strategy.params_are_sharded else wanted_here:
            expected = expect_live(runner)
            if wanted_here:
                self._taken = (step, expected)

    def after_save(self, runner: Any, folder: Path) -> None:
        """Begin to look at the first checkpoint.

        Raises:
            CheckpointError: it is not what was trained, where it is looked at in this process.
        """
        if self._verified or self._process is not None:
            return
        step = int(folder.name.rpartition("_")[2])
        if (
            self._taken is None
            and runner.train_loop.step == step
            and not runner.strategy.params_are_sharded
        ):
            self._taken = (step, expect_live(runner))
        if self._taken is None or self._taken[0] != step:
            return  # the weights of that step are gone: the next checkpoint is looked at
        try:
            self._begin(runner, folder, self._taken[1])
        except VerificationSkipped as error:
            self._give_up(error)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Hear what the fresh process found, if it is done.

        Raises:
            CheckpointError: the checkpoint is not what was trained.
        """
        if self._process is not None and self._process.is_done():
            self._hear()

    def after_run(self, runner: Any) -> None:
        """Wait for the fresh process.

        Raises:
            CheckpointError: the checkpoint is not what was trained.
        """
        if self._process is not None:
            self._hear()

    def _begin(self, runner: Any, folder: Path, expected: ReferenceOutputs) -> None:
        self._name = folder.name
        device = runner.strategy.device
        trusts = trusts_remote_code(runner)
        if self.mode == "in_process":
            found = inspect_in_process(make_request(folder, expected, device, trusts))
            self._say(check_result(found, expected, self._name, require_nonzero=False))
            return
        # Beside a training, which may need more memory in a later step, a second model needs more room.
        where = verification_device(runner.unwrapped_model, device, headroom=2.0)
        self._tolerance = logit_tolerance(where, device)
        self._copy = link(folder, runner.run_dir)
        self._process = VerifySubprocess(make_request(self._copy, expected, where, trusts))

    def _hear(self) -> None:
        assert self._process is not None
        assert self._taken is not None
        process, self._process = self._process, None
        try:
            found = process.result(self.timeout)
            self._say(
                check_result(found, self._taken[1], self._name, self._tolerance, require_nonzero=False)
            )
        except VerificationSkipped as error:
            self._give_up(error)
        finally:
            self._end()

    def _say(self, comparison: Comparison) -> None:
        self._verified, self._taken = True, None
        console.info(f"  {self._name} is what was trained: reloaded, {comparison}")
        if comparison.adapter_norms and not any(comparison.adapter_norms.values()):
            console.info(f"warning: the adapter in {self._name} is zero still: nothing was learnt so far")
        elif 0 in comparison.adapter_norms.values():
            console.info(f"warning: {summarize_norms(comparison.adapter_norms)}")

    def _give_up(self, error: VerificationSkipped) -> None:
        self._verified, self._taken = True, None
        console.info(f"warning: {error}; training goes on, and the end of the run is verified again")

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)
            self._copy = None


def expect_live(runner: Any) -> ReferenceOutputs:
    """What the model gives as it is now. All ranks must call it where they share weights out."""
    strategy = runner.strategy
    return reference_outputs(
        runner.unwrapped_model, runner.tokenizer, runner.template, strategy.summon_full_params
    )


def verify_final(runner: Any, folder: Path, expected: ReferenceOutputs) -> Comparison:
    """Compare the last model of a run with the live one, in the way that the hook ``verify`` says.

    Without that hook, the saved model is loaded in this process.

    Args:
        runner: of the run.
        folder: that the model was saved in.
        expected: of the live model.

    Raises:
        CheckpointError: it is not what was trained, or the adapter has learnt nothing.
    """
    hook = next((each for each in runner.hooks if isinstance(each, VerifyHook)), None)
    options: dict[str, Any] = {} if hook is None else {"timeout": hook.timeout}
    try:
        comparison = verify_saved_model(
            folder,
            runner.unwrapped_model,
            runner.tokenizer,
            runner.template,
            runner.strategy.device,
            trust_remote_code=trusts_remote_code(runner),
            subprocess=hook is not None and hook.mode == "subprocess",
            reference=expected,
            **options,
        )
    except VerificationSkipped as error:
        raise CheckpointError(f"{error}; or set hooks.verify.mode='in_process'") from error
    if comparison.adapter_norms:
        console.info("")
        console.info(summarize_norms(comparison.adapter_norms))
    return comparison


def trusts_remote_code(runner: Any) -> bool:
    """Whether the config lets code run that lies beside the weights."""
    return bool(runner.cfg.get("model", {}).get("trust_remote_code", False))


def link(folder: Path, root: Path) -> Path:
    """Give the files of a saved model a second name, under which they stay when the checkpoint is
    removed for newer ones. Where the disk has no links, they are copied.

    Args:
        folder: the checkpoint.
        root: where the second folder is made.
    """
    copy = Path(tempfile.mkdtemp(dir=root, prefix=PREFIX))
    for source in folder.rglob("*"):
        if not source.is_file() or source.name.startswith("training_state."):
            continue
        target = copy / source.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    return copy
