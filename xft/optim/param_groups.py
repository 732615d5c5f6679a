"""Group trainable parameters by weight decay and learning rate."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from xft.errors import ConfigError
from xft.models.model_options import model_options
from xft.models.param_shapes import full_shape

USES_LR_B = "uses_lr_b"
"""Key of the groups that train at LoRA+'s learning rate of B."""


def param_groups(model: nn.Module, separate_lr_b: bool = False) -> list[dict[str, Any]]:
    """Group a model's trainable parameters: matrices with weight decay, vectors without, by their learning rate.

    Args:
        model: model to train.
        separate_lr_b: put the parameters that LoRA+ trains at the learning rate of B (B matrices and vectors, as in
            ``peft.optimizers.create_loraplus_optimizer``) into groups of their own, marked ``USES_LR_B``.

    Returns:
        Groups for a torch optimizer, without empty ones.

    Raises:
        ConfigError: nothing is trainable.
    """
    trainable = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    if not trainable:
        raise ConfigError(
            key="model",
            got="no trainable parameter",
            expected="an adapter, or adapter=None to train all parameters",
        )
    lr_of = model_options(model).lr_of
    rates = dict.fromkeys([None, *(lr_of(name) for name, _ in trainable)])
    groups: list[dict[str, Any]] = []
    for rate in rates:
        params = [(name, weight) for name, weight in trainable if lr_of(name) == rate]
        groups += [
            group if rate is None else {**group, "lr": rate} for group in _by_shape(params, separate_lr_b)
        ]
    return [group for group in groups if group["params"]]


def _by_shape(trainable: Sequence[tuple[str, nn.Parameter]], separate_lr_b: bool) -> list[dict[str, Any]]:
    matrices = [(name, weight) for name, weight in trainable if len(full_shape(weight)) >= 2]
    lora_b = [weight for name, weight in matrices if separate_lr_b and ".lora_B." in name]
    others = [weight for name, weight in matrices if not (separate_lr_b and ".lora_B." in name)]
    vectors = [weight for _, weight in trainable if len(full_shape(weight)) < 2]
    mark = {USES_LR_B: True} if separate_lr_b else {}
    return [
        {"params": others},
        {"params": lora_b, **mark},
        {"params": vectors, "weight_decay": 0.0, **mark},
    ]
