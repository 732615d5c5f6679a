"""Verification that a saved model, reloaded, gives the outputs of the live model."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

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
from xft.training.hooks.base import Hook
from xft.training.runner import Runner
from xft.types import Batch
from xft.types.ranges import Minutes
from xft.utils import console

PREFIX = ".verify-"


@register("hooks", "verify")
class VerifyHook(Hook):
    """Reload the first checkpoint and the final model, and compare them with the live model.

    The reference logits are computed when the checkpoint is saved. The first checkpoint is verified
    while training continues; a difference ends the run.

    Args:
        mode: ``subprocess`` loads in a new process, which shares only the saved files with this one;
            ``in_process`` loads in this process, some seconds faster, while training waits.
        timeout_minutes: time limit of the subprocess.
    """

    priority = "LOWEST"

    def __init__(
        self, mode: Literal["subprocess", "in_process"] = "subprocess", timeout_minutes: Minutes = 30
    ) -> None:
        if timeout_minutes <= 0:
            raise ConfigError(
                key="hooks.verify.timeout_minutes", got=timeout_minutes, expected="more than 0"
            )
        self.mode = mode
        self.timeout = 60.0 * timeout_minutes

    def before_run(self, runner: Runner) -> None:
        """Reset the state, and remove copies that a killed run left behind."""
        self._verified = runner.strategy.rank != 0
        self._reference: tuple[int, ReferenceOutputs] | None = None
        self._process: VerifySubprocess | None = None
        self._copy: Path | None = None
        self._tolerance = 0.0
        if runner.strategy.rank == 0:
            for stale in runner.run_dir.glob(f"{PREFIX}*"):
                shutil.rmtree(stale, ignore_errors=True)
        runner.cleanup.callback(self._clean_up)

    def before_save(self, runner: Runner, step: int) -> None:
        """Compute the logits that the checkpoint of this step must reproduce."""
        strategy = runner.strategy
        needed = not self._verified and self._process is None
        # If parameters are sharded, all ranks must take part in the forward pass of rank 0.
        if strategy.reduce_sum([needed])[0] if strategy.params_are_sharded else needed:
            reference = expect_live(runner)
            if needed:
                self._reference = (step, reference)

    def after_save(self, runner: Runner, folder: Path) -> None:
        """Start to verify the first checkpoint.

        Raises:
            CheckpointError: in mode ``in_process``, the checkpoint differs from the live model.
        """
        if self._verified or self._process is not None:
            return
        step = int(folder.name.rpartition("_")[2])
        if (
            self._reference is None
            and runner.train_loop.step == step
            and not runner.strategy.params_are_sharded
        ):
            self._reference = (step, expect_live(runner))
        if self._reference is None or self._reference[0] != step:
            return  # the live weights of that step are gone; verify the next checkpoint
        try:
            self._start(runner, folder, self._reference[1])
        except VerificationSkipped as error:
            self._skip(error)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Sequence[Batch], outputs: Mapping[str, float]
    ) -> None:
        """Check the result of the subprocess, if it has finished.

        Raises:
            CheckpointError: the checkpoint differs from the live model.
        """
        if self._process is not None and self._process.is_done():
            self._poll()

    def after_run(self, runner: Runner) -> None:
        """Wait for the subprocess, and check its result.

        Raises:
            CheckpointError: the checkpoint differs from the live model.
        """
        if self._process is not None:
            self._poll()

    def _start(self, runner: Runner, folder: Path, reference: ReferenceOutputs) -> None:
        self._name = folder.name
        live_device = runner.strategy.device
        trusted = trusts_remote_code(runner)
        if self.mode == "in_process":
            result = inspect_in_process(make_request(folder, reference, live_device, trusted))
            self._report(check_result(result, reference, self._name, require_nonzero=False))
            return
        # Why twice the size: a later step of the training may need more memory than the present one.
        device = verification_device(runner.unwrapped_model, live_device, headroom=2.0)
        self._tolerance = logit_tolerance(device, live_device)
        self._copy = link_tree(folder, runner.run_dir)
        self._process = VerifySubprocess(make_request(self._copy, reference, device, trusted))

    def _poll(self) -> None:
        assert self._process is not None
        assert self._reference is not None
        process, self._process = self._process, None
        reference = self._reference[1]
        try:
            result = process.result(self.timeout)
            self._report(
                check_result(result, reference, self._name, self._tolerance, require_nonzero=False)
            )
        except VerificationSkipped as error:
            self._skip(error)
        finally:
            self._clean_up()

    def _report(self, comparison: Comparison) -> None:
        self._verified, self._reference = True, None
        console.info(f"  verified {self._name}/: reloaded model matches the live model ({comparison})")
        if comparison.adapter_norms and not any(comparison.adapter_norms.values()):
            console.info(
                f"warning: the adapter in {self._name} is still zero; the learning rate of the first warm-up step is 0"
            )
        elif 0 in comparison.adapter_norms.values():
            console.info(f"warning: {summarize_norms(comparison.adapter_norms)}")

    def _skip(self, error: VerificationSkipped) -> None:
        self._verified, self._reference = True, None
        console.info(f"warning: {error}; training continues, and the final model is verified at the end")

    def _clean_up(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)
            self._copy = None


def expect_live(runner: Runner) -> ReferenceOutputs:
    """Compute the outputs of the live model. If parameters are sharded, all ranks must call it."""
    strategy = runner.strategy
    return reference_outputs(
        runner.unwrapped_model, runner.tokenizer, runner.template, strategy.summon_full_params
    )


def verify_final(runner: Runner, folder: Path, reference: ReferenceOutputs) -> Comparison:
    """Compare the final model of a run with the live model, in the mode of the ``verify`` hook.

    Without that hook, the saved model is loaded in this process.

    Args:
        runner: runner of the finished training.
        folder: folder with the saved model.
        reference: outputs of the live model.

    Raises:
        CheckpointError: the outputs differ, or the adapter is all zeros.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, VerifyHook)), None)
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
            reference=reference,
            **options,
        )
    except VerificationSkipped as error:
        raise CheckpointError(
            f"{error}; or set hooks.verify.mode='in_process'", key="hooks.verify.mode"
        ) from error
    if comparison.adapter_norms:
        console.info(summarize_norms(comparison.adapter_norms), terminal=False)
    return comparison


def trusts_remote_code(runner: Runner) -> bool:
    """Return whether the config allows Python code next to the weights to run."""
    return bool(runner.cfg.get("model", {}).get("trust_remote_code", False))


def link_tree(folder: Path, root: Path) -> Path:
    """Hard-link the files of a saved model into a new folder, or copy them if links are unsupported.

    The new folder survives when the checkpoint is removed to make room for newer ones.

    Args:
        folder: checkpoint; its training state is left out.
        root: parent of the new folder.

    Returns:
        The new folder.
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
