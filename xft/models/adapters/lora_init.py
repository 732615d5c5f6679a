"""Adapters that begin with a part of the weights that they are on: PiSSA and OLoRA.

Both split a weight, ``W = R + s · B₀ A₀``, freeze ``R``, and train ``B A`` from ``B₀ A₀`` on. Written so, the
base in memory is another than the one on the disk: an adapter that is saved does not belong on it, ``R`` in 16
bits is rounded, and with the adapter switched off the model is not the original one. Here the base stays as it
is, and the same function is computed as ``W + s · (B A − B₀ A₀)``: one LoRA of twice the rank, with
``[A; A₀]`` and ``[B, −B₀]``, whose second halves get no gradient. It is what peft makes of PiSSA when it is
saved for the original base.
"""

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear, LoraLayer
from torch import Tensor, nn

from xft.errors import ConfigError

ADAPTER = "default"
_HELD = "_xft_held"


def init_lora_from_weights(model: PeftModel, init: str, rank: int) -> None:
    """Let a new adapter begin with a part of the weights.

    Args:
        model: with an adapter of twice ``rank`` that has not been trained.
        init: ``pissa`` (the largest singular values and their vectors), ``pissa_niter_N`` (the same, nearly, by
            N iterations of a randomised decomposition), or ``olora`` (the first columns of Q and rows of R).
        rank: of what is trained.

    Raises:
        ConfigError: a layer cannot be split.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            _check(layer, name, init, rank)
            _begin(layer, init, rank)


def num_held(weight: nn.Parameter) -> int:
    """How many numbers of a weight that is trained are held where they are."""
    held: int = getattr(weight, _HELD, 0)
    return held


def _check(layer: LoraLayer, name: str, init: str, rank: int) -> None:
    base: Any = layer.get_base_layer()
    if not isinstance(layer, Linear):
        raise ConfigError(
            f"adapter.init: {init!r} splits the weights of linear layers, and {name} is a "
            f"{type(base).__name__}; name other target_modules, or set init='lora'"
        )
    if hasattr(base.weight, "ds_id"):
        raise ConfigError(
            f"adapter.init: {init!r} needs whole weights to split, and ZeRO-3 shares them out as they are read; take "
            "--deepspeed zero2, or set init='lora'"
        )
    if rank > min(base.weight.shape):
        raise ConfigError(
            f"adapter.r: got {rank}, and {name} is {' x '.join(map(str, base.weight.shape))}: init={init!r} takes at "
            f"most {min(base.weight.shape)} of it"
        )


def _begin(layer: Any, init: str, rank: int) -> None:
    weight = layer.get_base_layer().weight
    whole = weight.data
    # peft takes the rank from here, and leaves in the base what the adapter does not have.
    layer.r[ADAPTER] = rank
    weight.data = whole.clone()
    try:
        with torch.no_grad():
            if init == "olora":
                layer.olora_init(ADAPTER)
            else:
                layer.pissa_init(ADAPTER, init)
    finally:
        weight.data = whole
        layer.r[ADAPTER] = 2 * rank
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    a.data = torch.cat([a.data, a.data], dim=0)
    b.data = torch.cat([b.data, -b.data], dim=1)
    _hold(a, rank, dim=0)
    _hold(b, rank, dim=1)


def _hold(weight: nn.Parameter, rank: int, dim: int) -> None:
    """Give the second half of a weight no gradient."""

    def only_first(gradient: Tensor) -> Tensor:
        first = gradient.narrow(dim, 0, rank)
        return torch.cat([first, torch.zeros_like(first)], dim=dim)

    weight.register_hook(only_first)
    setattr(weight, _HELD, weight.numel() // 2)
