from typing import Any

import pytest
import torch
from helpers.preferences import pair_samples

from xft.data import collate_padding_free
from xft.errors import ConfigError
from xft.objectives import FunctionObjective, as_objective, next_token
from xft.objectives.base import validate_hyperparameters
from xft.types import Batch, LossOutput


def _constant_loss(model: Any, batch: Batch) -> LossOutput:
    return LossOutput(torch.tensor(2.5), batch.num_targets)


def test_as_objective_returns_an_objective_unchanged() -> None:
    assert as_objective(next_token) is next_token


def test_as_objective_wraps_a_plain_function_whose_targets_are_tokens() -> None:
    objective = as_objective(_constant_loss)
    batch = collate_padding_free(pair_samples())
    assert isinstance(objective, FunctionObjective)
    assert (objective.data_kind, objective.model_kind) == ("samples", "causal_lm")
    assert objective.count_targets(batch) == batch.num_targets > 0
    assert float(objective(torch.nn.Identity(), batch).loss_sum) == 2.5


@pytest.mark.parametrize(
    ("name", "value"),
    [("beta", 0.0), ("beta", float("nan")), ("label_smoothing", 0.5), ("nll_weight", -0.1)],
)
def test_validate_hyperparameters_out_of_range_raises_config_error(name: str, value: float) -> None:
    with pytest.raises(ConfigError) as error:
        validate_hyperparameters(**{name: value})
    assert error.value.key == f"objective.{name}"
    assert error.value.got is value
