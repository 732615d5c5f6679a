"""What DeepSpeed cannot share out is found before anything is loaded."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bitsandbytes.optim import AdamW8bit

from xft.errors import ConfigError
from xft.optim import adamw, muon, schedule_free_adamw
from xft.strategies.deepspeed.strategy import DeepSpeed

pytest.importorskip("deepspeed")


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (muon, "ZeRO hands an optimizer flat pieces of them; take 'adamw'"),
        (AdamW8bit, "is quantised in blocks and cannot be shared out"),
        (schedule_free_adamw, "which ZeRO has copies that would not follow"),
    ],
)
def test_an_optimizer_that_cannot_be_shared_out_is_refused(
    optimizer: Callable[..., Any], reason: str
) -> None:
    if optimizer is schedule_free_adamw:
        pytest.importorskip("schedulefree")
    with pytest.raises(ConfigError, match=reason):
        DeepSpeed.check({"zero": 2}, optimizer)


def test_others_are_taken_and_no_random_number_is_drawn() -> None:
    before = torch.get_rng_state()
    DeepSpeed.check({"zero": 3}, adamw)
    DeepSpeed.check({"zero": 2}, torch.optim.SGD)
    assert torch.equal(torch.get_rng_state(), before)
