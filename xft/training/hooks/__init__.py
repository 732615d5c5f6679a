"""Hooks: what happens beside the steps.

They are MMEngine hooks: a class of your own derives from ``mmengine.hooks.Hook``, overrides the
moments that it wants (``before_train``, ``after_train_iter``, ``after_train`` …) and is named in
the config under ``hooks``. The runner calls further moments, on all ranks and in the main thread:

- ``after_validation(runner, metrics)``,
- ``after_nonfinite(runner, reason, rows)``: the loss or the gradient of a step is not finite; a hook
  that sets ``runner.train_loop.forgiven`` leaves the step out, else the run ends,
- ``after_step(runner)``: all hooks are through with ``after_train_iter``, whatever their priority,
- ``before_save(runner, step)``: the training is about to be copied for a checkpoint,
- ``after_save(runner, folder)``: a checkpoint is on the disk. It is called at the end of the first
  step after that, and in any case before the run ends.
"""

from xft.training.hooks.checkpoint import CheckpointHook
from xft.training.hooks.early_stopping import EarlyStoppingHook
from xft.training.hooks.progress import ProgressHook
from xft.training.hooks.sample_generation import SampleGenerationHook
from xft.training.hooks.training_health import TrainingHealthHook
from xft.training.hooks.validation import ValidationHook
from xft.training.hooks.verify import VerifyHook, expect_live, verify_final

__all__ = [
    "CheckpointHook",
    "EarlyStoppingHook",
    "ProgressHook",
    "SampleGenerationHook",
    "TrainingHealthHook",
    "ValidationHook",
    "VerifyHook",
    "expect_live",
    "verify_final",
]
