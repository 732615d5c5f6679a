"""Schedule-free optimizers, compared with the package ``schedulefree``."""

from typing import Any

import pytest
import schedulefree
import torch
from helpers.tolerances import assert_close_sums, tolerance

from xft.errors import ConfigError
from xft.optim import (
    adamw,
    build_optimizer,
    check_lr_scheduler,
    constant,
    cosine,
    is_schedule_free,
    schedule_free_adamw,
    to_eval_mode,
    to_train_mode,
)


def _model() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 4))


def test_schedule_free_adamw_matches_its_package() -> None:
    """Moved to the average and back in every step, with a warm-up of ours, against one that is moved once, at the
    end, and whose rate is set by hand."""
    ours, theirs = _model(), _model()
    optimizer = build_optimizer(lambda groups: schedule_free_adamw(groups, lr=1e-2), ours)
    lr_scheduler = constant(optimizer, num_steps=30, warmup_steps=10)
    check_lr_scheduler(optimizer, lr_scheduler, 30)
    reference = schedulefree.AdamWScheduleFree(theirs.parameters(), lr=1e-2, foreach=False)
    reference.train()
    generator = torch.Generator().manual_seed(1)
    for step in range(30):
        batch = torch.randn(8, 6, generator=generator)
        to_train_mode(optimizer)
        for model in (ours, theirs):
            model(batch).square().sum().backward()
        reference.param_groups[0]["lr"] = 1e-2 * min(1, step / 10)
        reference.step()
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        reference.zero_grad()
        to_eval_mode(optimizer)
    reference.eval()
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close_sums(one, two, tolerance(torch.float32, 30 * 10))


def test_check_lr_scheduler_schedule_free_with_decay_raises() -> None:
    model = _model()
    optimizer = build_optimizer(schedule_free_adamw, model)
    with pytest.raises(ConfigError) as error:
        check_lr_scheduler(optimizer, cosine(optimizer, 10), 10)
    assert error.value.key == "lr_scheduler.type"
    plain = build_optimizer(adamw, model)
    check_lr_scheduler(plain, cosine(plain, 10), 10)
    assert not is_schedule_free(plain)


def test_schedule_free_adamw_without_package_names_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xft.optim.schedule_free.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install xft-tuner\[schedulefree\]"):
        schedule_free_adamw(_model().parameters())
