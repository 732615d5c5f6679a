"""How much an adapter changes each layer: the Frobenius norm of ``ΔW = scaling · B A``."""

from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from xft.compat.peft import PeftModel
from xft.errors import CheckpointError


def adapter_norms(model: nn.Module) -> dict[str, float]:
    """``‖ΔW‖`` of each layer that a LoRA adapter is on, by the layer's name.

    ``ΔW`` is as large as the layer and is not made: with A of shape ``(r, in)`` and B of shape
    ``(out, r)``, ``‖B A‖² = trace(Aᵀ Bᵀ B A) = sum((Bᵀ B) ∘ (A Aᵀ))``, two matrices of ``(r, r)``.

    Args:
        model: any; one without an adapter gives nothing.
    """
    if not isinstance(model, PeftModel):
        return {}
    norms: dict[str, float] = {}
    for name, layer in model.get_base_model().named_modules():
        for adapter in model.active_adapters:
            if (pair := _pair(layer, adapter)) is not None:
                norms[name] = norms.get(name, 0.0) + _norm(*pair)
    return norms


def _pair(layer: Any, adapter: str) -> tuple[Tensor, Tensor, float] | None:
    """A, B and the scaling of one layer, whether it is a linear one or an embedding."""
    for kind in ("lora", "lora_embedding"):
        a, b = getattr(layer, f"{kind}_A", None), getattr(layer, f"{kind}_B", None)
        if a is not None and b is not None and adapter in a and adapter in b:
            weights = [getattr(each[adapter], "weight", each[adapter]) for each in (a, b)]
            return weights[0], weights[1], float(layer.scaling[adapter])
    return None


def _norm(a: Tensor, b: Tensor, scaling: float) -> float:
    # Double precision: the sum is of terms of either sign that may nearly cancel.
    a, b = (each.detach().flatten(1).double() for each in (a, b))
    square = ((b.T @ b) * (a @ a.T)).sum()
    return abs(scaling) * float(torch.sqrt(square.clamp(min=0)))


def check_learnt(norms: Mapping[str, float], also_trained: bool, name: str) -> None:
    """An adapter that adds nothing to any layer is not the result of a training.

    Args:
        norms: of its layers; nothing is checked where there are none.
        also_trained: whether it has more than its A and B, which may be what has learnt.
        name: of the saved model, for the message.

    Raises:
        CheckpointError: all norms are zero.
    """
    if norms and not any(norms.values()) and not also_trained:
        raise CheckpointError(
            f"{name}: the adapter is zero in all of its {len(norms)} layers: nothing was learnt; look at "
            "optimizer.lr, the number of steps, and the warnings of the run"
        )


def trains_more(model: nn.Module) -> bool:
    """Whether an adapter has more than its A and B: whole layers, or the rows of new tokens."""
    configs: dict[str, Any] = getattr(model, "peft_config", {})
    return any(
        getattr(each, "modules_to_save", None) or getattr(each, "trainable_token_indices", None)
        for each in configs.values()
    )


def summarise(norms: Mapping[str, float]) -> str:
    """The least, the median and the greatest norm in one line, and what is zero."""
    values = sorted(norms.values())
    zero = [name for name, each in norms.items() if each == 0]
    line = (
        f"adapter norms ‖ΔW‖ of {len(values)} layers: min {values[0]:.3g}, median {median(values):.3g}, "
        f"max {values[-1]:.3g}"
    )
    return f"{line}; {len(zero)} are zero (such as {zero[0]})" if zero else line
