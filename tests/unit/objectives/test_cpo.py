import math

import pytest
import torch
from helpers.preferences import pair_samples, plain_log_probs, whole_model
from torch.nn.functional import logsigmoid

from xft.data import collate_padding_free
from xft.errors import ConfigError
from xft.objectives import CPO
from xft.objectives.paired import CompletionLogProbs, PairLogProbs

CHOSEN, REJECTED = torch.tensor([-4.0, -9.0, -0.5]), torch.tensor([-6.0, -3.0, -0.5])
LENGTHS = torch.tensor([2.0, 3.0, 1.0])
PAIRS = PairLogProbs(
    CompletionLogProbs(CHOSEN, LENGTHS),
    CompletionLogProbs(REJECTED, 2 * LENGTHS),
    torch.tensor([[0, 2, 4], [1, 3, 5]]),
    6,
)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_cpo_without_nll_is_dpo_against_a_uniform_reference(label_smoothing: float) -> None:
    """Xu et al. 2024, equation 3; smoothing as in cDPO."""
    losses = CPO(beta=0.3, label_smoothing=label_smoothing, cpo_alpha=0.0).pair_losses(PAIRS)
    margin = 0.3 * (CHOSEN - REJECTED)
    expected = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    torch.testing.assert_close(losses.losses, expected)
    torch.testing.assert_close(losses.chosen_rewards - losses.rejected_rewards, margin)


def test_cpo_alpha_weights_the_mean_nll_of_chosen_completions_only() -> None:
    plain, weighted = (CPO(beta=0.3, cpo_alpha=alpha).pair_losses(PAIRS) for alpha in (0.0, 2.0))
    torch.testing.assert_close(weighted.losses - plain.losses, -2.0 * CHOSEN / LENGTHS)
    assert torch.equal(weighted.chosen_rewards, plain.chosen_rewards)


def test_cpo_metrics_equal_values_by_hand() -> None:
    model = whole_model()
    log_probs = plain_log_probs(model, pair_samples()).detach()
    chosen, rejected = log_probs[::2], log_probs[1::2]
    output = CPO(beta=0.2)(model, collate_padding_free(pair_samples()))
    expected = {
        "rewards/chosen": 0.2 * chosen.mean(),
        "rewards/rejected": 0.2 * rejected.mean(),
        "rewards/margins": 0.2 * (chosen - rejected).mean(),
        "rewards/accuracies": (chosen > rejected).double().mean(),
        "logps/chosen": chosen.mean(),
        "logps/rejected": rejected.mean(),
        "length/chosen": (5 + 2 + 6 + 1) / 4,
        "length/rejected": (7 + 4 + 3 + 9) / 4,
        "nll_loss": -chosen.sum() / 14,
    }
    means = {
        name: float(value) / output.metric_denominators.get(name, output.num_targets)
        for name, value in output.metrics.items()
    }
    assert means == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [("beta", 0.0), ("label_smoothing", 0.5), ("cpo_alpha", -1.0), ("cpo_alpha", math.nan)],
)
def test_cpo_hyperparameter_out_of_range_raises_config_error(key: str, value: float) -> None:
    with pytest.raises(ConfigError) as error:
        CPO(**{key: value})
    assert error.value.key == f"objective.{key}"
    assert error.value.got is value
