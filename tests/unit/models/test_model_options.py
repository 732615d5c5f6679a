import copy

import torch
from helpers.preferences import adapted_model, whole_model
from peft import PeftModel

from xft.models.model_options import (
    ModelOptions,
    model_options,
    set_model_options,
    transformers_config,
    without_adapter,
)


def test_model_without_options_gets_defaults_that_stay_with_it() -> None:
    model = whole_model()
    options = model_options(model)
    assert options == ModelOptions()
    options.neftune_alpha = 5.0
    assert model_options(model).neftune_alpha == 5.0


def test_options_are_shared_by_model_and_adapter() -> None:
    adapted = adapted_model()
    base = without_adapter(adapted)
    assert isinstance(adapted, PeftModel)
    assert not isinstance(base, PeftModel)
    set_model_options(adapted, ModelOptions(fused_kernels=False))
    assert model_options(base) is model_options(adapted)
    assert without_adapter(base) is base
    assert transformers_config(adapted) is transformers_config(base)


def test_copy_of_a_model_inherits_options_and_does_not_share_them() -> None:
    model = whole_model()
    set_model_options(model, ModelOptions(neftune_alpha=5.0))
    copied = copy.deepcopy(model)
    assert model_options(copied) == model_options(model)
    model_options(copied).neftune_alpha = None
    assert model_options(model).neftune_alpha == 5.0


def test_options_are_no_part_of_the_state() -> None:
    model = whole_model()
    before = set(model.state_dict())
    set_model_options(model, ModelOptions())
    assert set(model.state_dict()) == before
    assert all(isinstance(value, torch.Tensor) for value in model.state_dict().values())
