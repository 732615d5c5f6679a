"""A model that has diverged ends the run, and is not saved."""

import math

import pytest
import torch
from helpers.strategies import FakeStrategy
from torch import nn

from xft.errors import TrainingError
from xft.training.finite_checks import check_trained_weights, check_validation_loss


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 4])
def test_validation_loss_that_is_not_finite_raises(loss: float, step: int) -> None:
    check_validation_loss(1e9, step)
    with pytest.raises(TrainingError) as caught:
        check_validation_loss(loss, step)
    assert (caught.value.key, str(caught.value.got)) == ("validation loss", str(loss))
    assert ("optimizer.lr" in caught.value.fix) == (step > 0)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_trained_weight_that_is_not_finite_raises(value: float) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    strategy = FakeStrategy()
    check_trained_weights(model, strategy, 3)
    with torch.no_grad():
        model[1].bias[1] = value
    with pytest.raises(TrainingError) as caught:
        check_trained_weights(model, strategy, 3)
    assert caught.value.got == ["1.bias"]
    model[1].bias.requires_grad = False
    check_trained_weights(model, strategy, 3)
