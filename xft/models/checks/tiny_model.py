"""Build tiny models: models in fp64 with random weights, to measure the attention of a model class.

The weights are large enough that each part of the attention (sinks, soft caps, windows) changes the logits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PretrainedConfig, PreTrainedModel

MAX_PARAMS = 60_000_000
"""Maximum size of a tiny model. A larger one means that the class reads sizes unknown to :func:`tiny_config`."""


@contextmanager
def double_precision() -> Iterator[None]:
    """Compute in fp64 what is computed here, also where a model asks for fp32.

    Models compute norms, softmax and router scores in fp32 with weights of any dtype. The rounding of fp32
    grows to 1e-4 in a tiny model, that of fp64 stays below 1e-12, where nothing else can hide.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Double():
            yield
    finally:
        torch.set_default_dtype(default)


class _Double(TorchFunctionMode):
    """Replace fp32 by fp64 in the arguments of torch functions."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.float:
            return args[0].double()
        args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        kwargs = {
            name: torch.float64 if value is torch.float32 else value
            for name, value in (kwargs or {}).items()
        }
        return func(*args, **kwargs)


def build_tiny_model(
    model_class: type[PreTrainedModel], config: PretrainedConfig, attention: str
) -> PreTrainedModel:
    """Build a tiny model with random weights, which depend only on the config.

    Args:
        model_class: class of the model.
        config: result of :func:`tiny_config`; it is copied.
        attention: ``attn_implementation`` of the tiny model.

    Raises:
        ValueError: the tiny model has more than :data:`MAX_PARAMS` parameters, or the class rejects ``attention``.
    """
    config = deepcopy(config)
    config._attn_implementation = attention
    config._experts_implementation = "eager"  # Grouped products of experts have no fp64.
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class(deepcopy(config)).parameters())
    if size > MAX_PARAMS:
        raise ValueError(f"a tiny model of {size:,} parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # Call the class, because ``from_config`` shards weights while DeepSpeed ZeRO-3 is enabled.
        model = model_class(config).double().eval()
        _randomize(model)
    return model


@torch.no_grad()
def _randomize(model: nn.Module) -> None:
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape)
        if parameter.ndim >= 2:
            parameter.copy_(1.5 * noise / parameter.shape[-1] ** 0.5)
        else:
            parameter.add_(0.3 * noise)
