"""Learning-rate schedulers: warm-up and decay."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainingArguments

from xft.errors import ConfigError
from xft.optim.schedulers import constant, cosine, linear, num_warmup_steps


@pytest.mark.parametrize(
    ("ratio", "steps", "expected"),
    [
        (None, None, 3),
        (0.1, None, 10),
        (0.0, None, 0),
        (None, 7, 7),
        (None, 0, 0),
        (None, 500, 99),
        (0.999, None, 99),
    ],
)
def test_num_warmup_steps_of_100(ratio: float | None, steps: int | None, expected: int) -> None:
    assert num_warmup_steps(100, ratio, steps) == expected


@pytest.mark.parametrize(
    ("num_steps", "ratio", "expected"),
    [(10, 0.03, 1), (45, 0.03, 2), (91, 0.03, 3), (10, 0.0, 0), (1, 0.03, 0)],
)
def test_num_warmup_steps_is_rounded_up_as_in_transformers(
    num_steps: int, ratio: float, expected: int, tmp_path: Path
) -> None:
    """Only a run of one step has fewer: its step is at the peak."""
    assert num_warmup_steps(num_steps, ratio, None) == expected
    reference = TrainingArguments(str(tmp_path), warmup_steps=ratio).get_warmup_steps(num_steps)
    assert expected == min(reference, num_steps - 1)


@pytest.mark.parametrize(
    ("ratio", "steps", "key"),
    [
        (0.1, 5, "lr_scheduler"),
        (1.0, None, "lr_scheduler.warmup_ratio"),
        (-0.1, None, "lr_scheduler.warmup_ratio"),
        (None, -1, "lr_scheduler.warmup_steps"),
    ],
)
def test_num_warmup_steps_out_of_range_raises(ratio: float | None, steps: int | None, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        num_warmup_steps(100, ratio, steps)
    assert error.value.key == key


@pytest.mark.parametrize(("create", "last"), [(cosine, 0.1), (linear, 0.0), (constant, 1.0)])
def test_scheduler_warms_up_then_decays(create: Callable[..., LRScheduler], last: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    options = {"min_lr_ratio": 0.1} if create is cosine else {}
    scheduler = create(optimizer, 10, warmup_steps=4, **options)
    rates = []
    for _ in range(11):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert rates[10] == pytest.approx(last)
