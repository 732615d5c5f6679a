"""Optimizers, learning-rate schedulers and parameter groups."""

# Importing the modules registers their components.
from xft.optim.elementwise import elementwise_problem
from xft.optim.optimizers import adamw, adamw_8bit, build_optimizer, muon, paged_adamw_8bit
from xft.optim.param_groups import param_groups
from xft.optim.schedule_free import (
    check_lr_scheduler,
    is_schedule_free,
    schedule_free_adamw,
    to_eval_mode,
    to_train_mode,
)
from xft.optim.schedulers import constant, cosine, linear

__all__ = [
    "adamw",
    "adamw_8bit",
    "build_optimizer",
    "check_lr_scheduler",
    "constant",
    "cosine",
    "elementwise_problem",
    "is_schedule_free",
    "linear",
    "muon",
    "paged_adamw_8bit",
    "param_groups",
    "schedule_free_adamw",
    "to_eval_mode",
    "to_train_mode",
]
