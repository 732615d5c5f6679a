"""Optimizers that a config can name, and how one is built for a model."""

from collections.abc import Callable, Iterable
from functools import update_wrapper
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from xft.errors import ConfigError
from xft.models.adapters.lora_init import half_frozen_parameters
from xft.optim.param_groups import USES_LR_B, param_groups
from xft.registry import register
from xft.types.ranges import Fraction, NonNegative, Probability


class _AdamW(Protocol):
    """Signature that all variants of AdamW share."""

    def __call__(
        self,
        params: Iterable[Any],
        lr: NonNegative = 2e-4,
        betas: tuple[Probability, Probability] = (0.9, 0.999),
        eps: Fraction = 1e-8,
        weight_decay: NonNegative = 0.0,
    ) -> Optimizer: ...


def _adamw_variant(create: Callable[..., Optimizer]) -> _AdamW:
    """Register ``create`` as an optimizer with the signature of AdamW."""

    def build(
        params: Iterable[Any],
        lr: NonNegative = 2e-4,
        betas: tuple[Probability, Probability] = (0.9, 0.999),
        eps: Fraction = 1e-8,
        weight_decay: NonNegative = 0.0,
    ) -> Optimizer:
        return create(list(params), lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)

    update_wrapper(build, create, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    del build.__wrapped__  # type: ignore[attr-defined]  # inspect.signature would follow it
    return register("optimizer", create.__name__)(build)


@_adamw_variant
def adamw(params: list[Any], **hyperparameters: Any) -> Optimizer:
    """Create AdamW of torch (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101)."""
    weights = [
        weight for group in params for weight in (group["params"] if isinstance(group, dict) else [group])
    ]
    # On a CPU, fused takes one pass over all weights instead of a dozen small operations for each.
    # On a GPU, torch chooses the fast path by itself.
    fused = all(weight.device.type == "cpu" for weight in weights) or None
    return torch.optim.AdamW(params, fused=fused, **hyperparameters)


@_adamw_variant
def adamw_8bit(params: list[Any], **hyperparameters: object) -> Optimizer:
    """Create AdamW of bitsandbytes with 8-bit state (Dettmers et al. 2021, https://arxiv.org/abs/2110.02861).

    Raises:
        ConfigError: there is no CUDA GPU.
    """
    _require_cuda("adamw_8bit")
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(params, **hyperparameters)


@_adamw_variant
def paged_adamw_8bit(params: list[Any], **hyperparameters: object) -> Optimizer:
    """Create AdamW of bitsandbytes with 8-bit state that is paged to host memory when the GPU is full.

    Raises:
        ConfigError: there is no CUDA GPU.
    """
    _require_cuda("paged_adamw_8bit")
    import bitsandbytes

    return bitsandbytes.optim.PagedAdamW8bit(params, **hyperparameters)


def _require_cuda(name: str) -> None:
    if not torch.cuda.is_available():
        raise ConfigError(
            key="optimizer.type", got=name, expected="a CUDA GPU for it", fix="use 'adamw' on this machine"
        )


@register("optimizer", "muon")
def muon(
    params: Iterable[Any],
    lr: NonNegative = 2e-4,
    momentum: Probability = 0.95,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Create Muon of torch (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), for adapters.

    Updates are scaled to the RMS of AdamW's updates at the same learning rate (Liu et al. 2025,
    https://arxiv.org/abs/2502.16982).

    Raises:
        ConfigError: a trainable parameter is not a matrix, such as the norms of a full model, or torch has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            key="optimizer.type", got="muon", expected=f"torch 2.9 or newer, not {torch.__version__}"
        )
    groups = list(params)
    if any(weight.ndim != 2 for group in groups for weight in group["params"]):
        raise ConfigError(
            key="optimizer.type",
            got="muon",
            expected="trainable parameters that are all matrices",
            fix="train an adapter without DoRA, or use 'adamw'",
        )
    return torch.optim.Muon(
        groups, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )


def build_optimizer(
    create: Callable[..., Optimizer], model: nn.Module, loraplus_lr_ratio: float = 1.0
) -> Optimizer:
    """Build the optimizer of a model's trainable parameters.

    Args:
        create: optimizer class or function, with everything except the parameters bound.
        model: model to train.
        loraplus_lr_ratio: learning rate of the B matrices divided by that of the A matrices (LoRA+).

    Raises:
        ConfigError: nothing is trainable, or weight decay would shrink the frozen half of an adapter.
    """
    groups = param_groups(model, separate_lr_b=loraplus_lr_ratio != 1)
    uses_lr_b = [group.pop(USES_LR_B, False) for group in groups]
    frozen_halves = {id(weight) for weight in half_frozen_parameters(model)}
    optimizer = create(groups)
    for group, is_scaled in zip(optimizer.param_groups, uses_lr_b, strict=True):
        if is_scaled:
            group["lr"] = group["lr"] * loraplus_lr_ratio
        decay = group.get("weight_decay")
        if decay and any(id(weight) in frozen_halves for weight in group["params"]):
            raise ConfigError(
                key="optimizer.weight_decay",
                got=decay,
                expected="0 with an adapter that is initialized from the base weights, because decay would shrink its "
                "frozen half",
                fix="set it to 0, or set adapter.init_lora_weights='default'",
            )
    return optimizer
