"""Hooks: what happens beside the steps.

They are MMEngine hooks: a class of your own derives from ``mmengine.hooks.Hook``, overrides the
moments that it wants (``before_train``, ``after_train_iter``, ``after_train`` …) and is named in
the config under ``hooks``. The runner calls two further moments: ``after_validation(runner,
metrics)`` and ``after_save(runner, folder)``.
"""

from xft.engine.hooks.checkpoint import CheckpointHook
from xft.engine.hooks.early_stopping import EarlyStoppingHook
from xft.engine.hooks.progress import ProgressHook
from xft.engine.hooks.questions import QuestionsHook
from xft.engine.hooks.validation import ValidationHook

__all__ = [
    "CheckpointHook",
    "EarlyStoppingHook",
    "ProgressHook",
    "QuestionsHook",
    "ValidationHook",
]
