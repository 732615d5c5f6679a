"""What DeepSpeed cannot share out is found before anything is loaded."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bitsandbytes.optim import AdamW8bit

from xft.errors import ConfigError
from xft.optim import adamw, muon, schedule_free_adamw
from xft.strategies.deepspeed.strategy import DeepSpeedConfig

pytest.importorskip("deepspeed")


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (muon, "Muon does not work element by element"),
        (torch.optim.Adafactor, "the state of Adafactor does not have the shape of the parameters"),
        (AdamW8bit, "the state of AdamW8bit does not have the shape of the parameters"),
        (schedule_free_adamw, "ZeRO's copies of them would not follow"),
    ],
)
def test_validate_optimizer_that_cannot_be_sharded_raises(
    optimizer: Callable[..., Any], reason: str
) -> None:
    if optimizer is schedule_free_adamw:
        pytest.importorskip("schedulefree")
    with pytest.raises(ConfigError, match=reason) as error:
        DeepSpeedConfig(zero_stage=2).validate(optimizer)
    assert error.value.key == "optimizer.type"


def test_validate_shardable_optimizer_passes_and_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    DeepSpeedConfig(zero_stage=3).validate(adamw)
    DeepSpeedConfig(zero_stage=2).validate(torch.optim.SGD)
    assert torch.equal(torch.get_rng_state(), before)
