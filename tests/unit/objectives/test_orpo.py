import math

import pytest
import torch

from xft.errors import ConfigError
from xft.objectives import ORPO
from xft.objectives.paired import CompletionLogProbs, PairLogProbs

CHOSEN, REJECTED = [0.5, 0.2, 0.9], [0.25, 0.6, 0.9]
"""Mean probability per token."""


def _pairs(chosen_length: float = 2.0) -> PairLogProbs:
    sides = [
        CompletionLogProbs(torch.tensor(means).log() * length, torch.full((3,), length))
        for means, length in ((CHOSEN, chosen_length), (REJECTED, 3.0))
    ]
    return PairLogProbs(*sides, torch.tensor([[0, 2, 4], [1, 3, 5]]), 6)


def test_orpo_loss_equals_nll_plus_log_sigmoid_of_the_odds_ratio_by_hand() -> None:
    """Hong, Lee and Thorne 2024, equations 6 and 7."""
    losses = ORPO(beta=0.3).pair_losses(_pairs())
    expected = []
    for chosen, rejected in zip(CHOSEN, REJECTED, strict=True):
        ratio = (chosen / (1 - chosen)) / (rejected / (1 - rejected))
        expected.append(-math.log(chosen) + 0.3 * math.log(1 + 1 / ratio))
    torch.testing.assert_close(losses.losses, torch.tensor(expected))
    torch.testing.assert_close(losses.chosen_rewards, 0.3 * torch.tensor(CHOSEN).log())


def test_orpo_loss_is_independent_of_length() -> None:
    torch.testing.assert_close(ORPO().pair_losses(_pairs(40.0)).losses, ORPO().pair_losses(_pairs()).losses)


def test_orpo_beta_of_zero_raises_config_error() -> None:
    with pytest.raises(ConfigError) as error:
        ORPO(beta=0.0)
    assert (error.value.key, error.value.got) == ("objective.beta", 0.0)
