"""DPO and its relatives on a tiny model, against formulas on what transformers gives alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, plain_log_probs, whole_model
from helpers.tolerances import tolerance
from torch import Tensor
from torch.nn.functional import logsigmoid

from xft.data import collate_padded, collate_padding_free
from xft.errors import ConfigError
from xft.models.reference import FrozenReference
from xft.objectives import DPO
from xft.types import LossOutput

LENGTHS = torch.tensor([5.0, 7.0, 2.0, 4.0, 6.0, 3.0, 1.0, 9.0], dtype=torch.float64)
B = 0.3


def _ratios(model: Any) -> tuple[Tensor, Tensor]:
    """Log-ratios to the model without its adapter, and log-probabilities, each ``(samples,)``."""
    log_probs = plain_log_probs(model, pair_samples())
    with torch.no_grad(), model.disable_adapter():
        before = plain_log_probs(model, pair_samples())
    return log_probs - before, log_probs


FORMULAS: list[tuple[dict[str, Any], Callable[[Tensor, Tensor], Tensor], bool]] = [
    ({}, lambda c, r: -logsigmoid(B * (c - r)), False),
    (
        {"label_smoothing": 0.1},
        lambda c, r: -0.9 * logsigmoid(B * (c - r)) - 0.1 * logsigmoid(B * (r - c)),
        False,
    ),
    ({"length_normalized": True}, lambda c, r: -logsigmoid(B * (c - r)), True),
    ({"loss": "hinge"}, lambda c, r: torch.relu(1 - B * (c - r)), False),
    ({"loss": "ipo"}, lambda c, r: (c - r - 1 / (2 * B)) ** 2, True),
    ({"loss": "ipo", "length_normalized": False}, lambda c, r: (c - r - 1 / (2 * B)) ** 2, False),
    ({"loss": "sppo_hard"}, lambda c, r: (c - 0.5 / B) ** 2 + (r + 0.5 / B) ** 2, False),
]


@pytest.mark.parametrize(("arguments", "formula", "normalised"), FORMULAS)
@pytest.mark.parametrize("nll_weight", [0.0, 0.7])
def test_dpo_loss_equals_formula_of_log_ratios(
    arguments: dict[str, Any],
    formula: Callable[[Tensor, Tensor], Tensor],
    normalised: bool,
    nll_weight: float,
) -> None:
    model = adapted_model()
    ratios, log_probs = _ratios(model)
    if normalised:
        ratios = ratios / LENGTHS
    losses = formula(ratios[::2], ratios[1::2]) - nll_weight * (log_probs / LENGTHS)[::2]
    objective = DPO(beta=B, nll_weight=nll_weight, **arguments)
    for batch in (collate_padding_free(pair_samples()), collate_padded(pair_samples(), pad_token_id=0)):
        output = objective(model, batch)
        assert output.num_targets == 4
        assert float(output.loss_sum.detach()) == pytest.approx(float(losses.sum().detach()), rel=1e-4)


def _mean(output: LossOutput, name: str) -> float:
    return float(output.metrics[name]) / output.metric_denominators.get(name, output.num_targets)


def test_dpo_rewards_are_scaled_log_ratios() -> None:
    model = adapted_model()
    ratios, _ = _ratios(model)
    output = DPO(beta=B)(model, collate_padding_free(pair_samples()))
    assert _mean(output, "rewards/chosen") == pytest.approx(
        B * float(ratios[::2].mean().detach()), rel=1e-3
    )
    assert _mean(output, "rewards/rejected") == pytest.approx(
        B * float(ratios[1::2].mean().detach()), rel=1e-3
    )


@pytest.mark.parametrize("loss", ["sigmoid", "kto_pair", "nca_pair"])
def test_dpo_of_new_adapter_has_zero_margin(loss: Any) -> None:
    """B of LoRA is zero at first, so the model is its reference: rewards are 0. The sigmoid loss is
    ln 2, KTO's halves are 1/2 each, and NCA's is 2 ln 2."""
    model = adapted_model()
    for name, param in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(param)
    output = DPO(loss=loss)(model, collate_padding_free(pair_samples()))
    expected = {"sigmoid": 0.6931472, "kto_pair": 0.5, "nca_pair": 2 * 0.6931472}[loss]
    assert float(output.loss_sum.detach()) / 4 == pytest.approx(expected, rel=tolerance(torch.float32, 8))
    assert _mean(output, "rewards/chosen") == 0.0
    assert _mean(output, "rewards/accuracies") == 0.0


def test_dpo_with_frozen_copy_uses_initial_model() -> None:
    reference = FrozenReference(whole_model(seed=5))
    model = whole_model(seed=6)
    with torch.no_grad():
        before = plain_log_probs(reference.model, pair_samples())
        ratios = plain_log_probs(model, pair_samples()) - before
    expected = -logsigmoid(B * (ratios[::2] - ratios[1::2])).sum()
    output = DPO(beta=B).loss_with_reference(reference, model, collate_padding_free(pair_samples()))
    assert float(output.loss_sum.detach()) == pytest.approx(float(expected), rel=1e-4)
    output.loss_sum.backward()
    assert all(param.grad is None for param in reference.model.parameters())


def test_dpo_of_model_without_adapter_or_reference_raises_config_error() -> None:
    with pytest.raises(ConfigError) as error:
        DPO()(whole_model(), collate_padding_free(pair_samples()))
    assert error.value.key == "objective.reference"
    assert error.value.got == "disable_adapter"
