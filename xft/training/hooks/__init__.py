"""Hooks: code that runs at fixed moments of a training.

A hook derives from :class:`Hook`, overrides the moments that it needs, and is named in the config
under ``hooks``. Hooks derived from ``mmengine.hooks.Hook`` work too.
"""

from xft.training.hooks.base import Hook, HookCost
from xft.training.hooks.checkpoint import CheckpointHook
from xft.training.hooks.early_stopping import EarlyStoppingHook
from xft.training.hooks.periodic import PeriodicHook
from xft.training.hooks.progress import ProgressHook
from xft.training.hooks.sample_generation import SampleGenerationHook
from xft.training.hooks.stop_at_reward import StopAtRewardHook
from xft.training.hooks.training_health import TrainingHealthHook
from xft.training.hooks.validation import ValidationHook
from xft.training.hooks.verify import VerifyHook, expect_live, verify_final

__all__ = [
    "CheckpointHook",
    "EarlyStoppingHook",
    "Hook",
    "HookCost",
    "PeriodicHook",
    "ProgressHook",
    "SampleGenerationHook",
    "StopAtRewardHook",
    "TrainingHealthHook",
    "ValidationHook",
    "VerifyHook",
    "expect_live",
    "verify_final",
]
