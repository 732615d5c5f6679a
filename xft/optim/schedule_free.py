"""Schedule-free optimizers, which average weights instead of decaying the learning rate.

Defazio et al. 2024, https://arxiv.org/abs/2405.15682. An optimizer of the package ``schedulefree`` keeps the weights at
one of two points: in train mode where gradients are computed, in eval mode at the average. Strategies switch to train mode
for a step and back to eval mode after it. Validation, generation and checkpoints between steps use the average.

Switching rounds. Because it happens in every step, results do not depend on the validation interval, and a resumed
run is bit-identical.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Protocol, TypeGuard, runtime_checkable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from xft.errors import ConfigError
from xft.registry import register
from xft.types.ranges import Fraction, NonNegative, Probability


@runtime_checkable
class ScheduleFreeOptimizer(Protocol):
    """Part of the ``schedulefree`` interface that strategies call."""

    def train(self) -> None:
        """Move the weights to the point where gradients are computed."""

    def eval(self) -> None:
        """Move the weights to their average."""


@register("optimizer", "schedule_free_adamw")
def schedule_free_adamw(
    params: Iterable[Any],
    lr: NonNegative = 2e-3,
    betas: tuple[Probability, Probability] = (0.9, 0.999),
    eps: Fraction = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Create schedule-free AdamW from the package ``schedulefree``.

    Use it with ``lr_scheduler='constant'``, whose warm-up counts, and with up to ten times AdamW's learning rate.

    Raises:
        ConfigError: the package is not installed.
    """
    if find_spec("schedulefree") is None:
        raise ConfigError(
            "optimizer: schedule_free_adamw needs the package schedulefree; `pip install xft-tuner[schedulefree]`, or "
            "in a checkout `pip install -r requirements/schedulefree.txt`",
            key="optimizer.type",
            got="schedule_free_adamw",
        )
    from schedulefree import AdamWScheduleFree

    optimizer: Optimizer = AdamWScheduleFree(
        params, lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay
    )
    return optimizer


def is_schedule_free(optimizer: object) -> TypeGuard[ScheduleFreeOptimizer]:
    """Return whether an optimizer has a train mode and an eval mode."""
    return isinstance(optimizer, ScheduleFreeOptimizer)


def to_train_mode(optimizer: Optimizer) -> None:
    """Move the weights of a schedule-free optimizer to the point where gradients are computed."""
    if is_schedule_free(optimizer):
        optimizer.train()


def to_eval_mode(optimizer: Optimizer) -> None:
    """Move the weights of a schedule-free optimizer to their average."""
    if is_schedule_free(optimizer):
        optimizer.eval()


def check_lr_scheduler(optimizer: Optimizer, lr_scheduler: LRScheduler, num_steps: int) -> None:
    """Check that a schedule-free optimizer has no decaying learning rate.

    Raises:
        ConfigError: the learning rate decays.
    """
    factors = lr_scheduler.lr_lambdas if isinstance(lr_scheduler, LambdaLR) else []
    if is_schedule_free(optimizer) and any(factor(num_steps - 1) < 1 for factor in factors):
        raise ConfigError(
            key="lr_scheduler.type",
            got="a decaying learning rate",
            expected=f"'constant', because {type(optimizer).__name__} averages weights instead of decaying the rate",
            fix="set lr_scheduler='constant' (lr_scheduler.type=constant); its warm-up is supported",
        )
