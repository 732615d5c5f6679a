from dataclasses import replace

import pytest
import torch
from torch.nn.functional import softplus

from xft.errors import ConfigError
from xft.objectives import SimPO
from xft.objectives.paired import CompletionLogProbs, PairLogProbs

CHOSEN_MEAN, REJECTED_MEAN = torch.tensor([-2.0, -3.0, -0.5]), torch.tensor([-3.0, -1.0, -0.5])
LENGTHS = torch.tensor([2.0, 3.0, 1.0])
PAIRS = PairLogProbs(
    CompletionLogProbs(CHOSEN_MEAN * LENGTHS, LENGTHS),
    CompletionLogProbs(REJECTED_MEAN * 2 * LENGTHS, 2 * LENGTHS),
    torch.tensor([[0, 2, 4], [1, 3, 5]]),
    6,
)


def test_simpo_loss_compares_mean_log_probs_with_a_margin() -> None:
    """Meng, Xia and Chen 2024, equation 6, written with softplus."""
    losses = SimPO(beta=2.5, gamma=0.7).pair_losses(PAIRS)
    torch.testing.assert_close(losses.losses, softplus(0.7 - 2.5 * (CHOSEN_MEAN - REJECTED_MEAN)))
    torch.testing.assert_close(losses.chosen_rewards, 2.5 * CHOSEN_MEAN)
    torch.testing.assert_close(losses.rejected_rewards, 2.5 * REJECTED_MEAN)


def test_simpo_loss_is_independent_of_length() -> None:
    longer = replace(PAIRS, chosen=CompletionLogProbs(CHOSEN_MEAN * LENGTHS * 5, LENGTHS * 5))
    torch.testing.assert_close(SimPO().pair_losses(longer).losses, SimPO().pair_losses(PAIRS).losses)


def test_simpo_nll_weight_adds_the_mean_nll_of_chosen_completions() -> None:
    plain, weighted = (SimPO(nll_weight=weight).pair_losses(PAIRS) for weight in (0.0, 0.4))
    torch.testing.assert_close(weighted.losses - plain.losses, -0.4 * CHOSEN_MEAN)


@pytest.mark.parametrize(("key", "value"), [("beta", 0.0), ("gamma", -1.0), ("nll_weight", -0.1)])
def test_simpo_hyperparameter_out_of_range_raises_config_error(key: str, value: float) -> None:
    with pytest.raises(ConfigError) as error:
        SimPO(**{key: value})
    assert (error.value.key, error.value.got) == (f"objective.{key}", value)
