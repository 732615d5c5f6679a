"""Parameter groups by weight decay and learning rate."""

import pytest
from torch import nn

from xft.errors import ConfigError
from xft.optim.param_groups import USES_LR_B, param_groups


def test_param_groups_matrices_decay_and_vectors_do_not() -> None:
    model = nn.Linear(3, 2)
    matrices, vectors = param_groups(model)
    assert [id(weight) for weight in matrices["params"]] == [id(model.weight)]
    assert [id(weight) for weight in vectors["params"]] == [id(model.bias)]
    assert "weight_decay" not in matrices
    assert vectors["weight_decay"] == 0.0


def test_param_groups_separate_lr_b_marks_b_and_vectors() -> None:
    layer = nn.ModuleDict({"lora_A": nn.Linear(3, 2, bias=False), "lora_B": nn.Linear(2, 3)})
    groups = param_groups(nn.ModuleDict({"layer": layer}), separate_lr_b=True)
    assert [group.get(USES_LR_B, False) for group in groups] == [False, True, True]
    assert [[tuple(weight.shape) for weight in group["params"]] for group in groups] == [
        [(2, 3)],
        [(3, 2)],
        [(3,)],
    ]


def test_param_groups_without_trainable_parameter_raises() -> None:
    with pytest.raises(ConfigError) as error:
        param_groups(nn.Linear(3, 2).requires_grad_(False))
    assert error.value.key == "model"
