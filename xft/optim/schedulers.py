"""Learning-rate schedulers that a config can name: linear warm-up, then cosine, linear or no decay.

They are those of transformers: the number of warm-up steps is rounded up, and the first of them has a learning rate of 0.
"""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from xft.errors import ConfigError
from xft.registry import register
from xft.types.ranges import CountOrZero, Fraction, Probability

DEFAULT_WARMUP_RATIO = 0.03


@register("lr_scheduler", "cosine")
def cosine(
    optimizer: Optimizer,
    num_steps: int,
    warmup_ratio: Probability | None = None,
    warmup_steps: CountOrZero | None = None,
    min_lr_ratio: Fraction = 0.0,
) -> LRScheduler:
    """Warm up linearly, then decay along half a cosine.

    Args:
        optimizer: optimizer whose learning rates are the peak.
        num_steps: optimizer steps of the whole run.
        warmup_ratio: fraction of ``num_steps`` for the warm-up; default 0.03.
        warmup_steps: optimizer steps of the warm-up, instead of ``warmup_ratio``.
        min_lr_ratio: final learning rate divided by the peak.
    """
    return _build(
        "cosine_with_min_lr", optimizer, num_steps, warmup_ratio, warmup_steps, min_lr_rate=min_lr_ratio
    )


@register("lr_scheduler", "linear")
def linear(
    optimizer: Optimizer,
    num_steps: int,
    warmup_ratio: Probability | None = None,
    warmup_steps: CountOrZero | None = None,
) -> LRScheduler:
    """Warm up linearly, then decay linearly to zero."""
    return _build("linear", optimizer, num_steps, warmup_ratio, warmup_steps)


@register("lr_scheduler", "constant")
def constant(
    optimizer: Optimizer,
    num_steps: int,
    warmup_ratio: Probability | None = None,
    warmup_steps: CountOrZero | None = None,
) -> LRScheduler:
    """Warm up linearly, then keep the learning rate."""
    return _build("constant_with_warmup", optimizer, num_steps, warmup_ratio, warmup_steps)


def num_warmup_steps(num_steps: int, ratio: float | None, steps: int | None) -> int:
    """Return the optimizer steps of the warm-up, at most ``num_steps - 1``.

    Raises:
        ConfigError: both are given, or one is out of range.
    """
    if ratio is not None and steps is not None:
        raise ConfigError(
            key="lr_scheduler",
            got={"warmup_ratio": ratio, "warmup_steps": steps},
            expected="one of the two",
            fix="remove the other, or set it to None",
        )
    if steps is None:
        ratio = DEFAULT_WARMUP_RATIO if ratio is None else ratio
        if not 0 <= ratio < 1:
            raise ConfigError(
                key="lr_scheduler.warmup_ratio",
                got=ratio,
                expected="at least 0 and less than 1",
                fix="use warmup_steps for a number of steps",
            )
        steps = math.ceil(ratio * num_steps)
    elif steps < 0:
        raise ConfigError(key="lr_scheduler.warmup_steps", got=steps, expected="0 or more")
    # Why: without a step after the warm-up, the peak is never reached.
    return min(steps, num_steps - 1)


def _build(
    name: str,
    optimizer: Optimizer,
    num_steps: int,
    ratio: float | None,
    steps: int | None,
    **options: float,
) -> LRScheduler:
    from transformers import get_scheduler

    return get_scheduler(
        name,
        optimizer,
        num_warmup_steps=num_warmup_steps(num_steps, ratio, steps),
        num_training_steps=num_steps,
        scheduler_specific_kwargs=options or None,
    )
