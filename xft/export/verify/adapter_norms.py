"""Change that an adapter makes to each layer: the Frobenius norm of ``ΔW = scaling · B A``."""

from collections.abc import Mapping
from statistics import median

import torch
from torch import Tensor, nn

from xft.compat.peft import LoraLayer, ParamWrapper, PeftModel
from xft.errors import CheckpointError
from xft.models.adapters.parameter_lora import expert_factors


def adapter_norms(model: nn.Module) -> dict[str, float]:
    """Return ``‖ΔW‖`` of each layer with a LoRA adapter, by the layer's name.

    ``ΔW`` has the size of the layer and is not materialized: with A of shape ``(r, in)`` and B of shape
    ``(out, r)``, ``‖B A‖² = trace(Aᵀ Bᵀ B A) = sum((Bᵀ B) ∘ (A Aᵀ))``, two matrices of ``(r, r)``.

    Args:
        model: any model; the result is empty without an adapter.
    """
    if not isinstance(model, PeftModel):
        return {}
    norms: dict[str, float] = {}
    for name, layer in model.get_base_model().named_modules():
        for adapter in model.active_adapters:
            if isinstance(layer, LoraLayer) and (factors := _factors(layer, adapter)) is not None:
                norms[name] = norms.get(name, 0.0) + _norm(*factors)
    return norms


def _factors(layer: LoraLayer, adapter: str) -> tuple[Tensor, Tensor, float] | None:
    """Return A, B and the scaling of a layer; ``None`` if the adapter leaves it unchanged.

    Fused experts have one A and one B for each expert, in ``(experts, r, in)`` and ``(experts, out, r)``.
    """
    if adapter not in layer.scaling:
        return None
    scaling = float(layer.scaling[adapter])
    if adapter in layer.lora_embedding_A:
        return layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter], scaling
    if isinstance(layer, ParamWrapper):
        return *expert_factors(layer, adapter), scaling
    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return a.flatten(1), b.flatten(1), scaling


def _norm(a: Tensor, b: Tensor, scaling: float) -> float:
    # Double precision: terms of both signs may nearly cancel.
    a, b = (factor.detach().double() for factor in (a, b))
    square = ((b.mT @ b) * (a @ a.mT)).sum()
    return abs(scaling) * float(torch.sqrt(square.clamp(min=0)))


def check_adapter_nonzero(norms: Mapping[str, float], trains_other_params: bool, name: str) -> None:
    """Refuse a trained adapter that changes no layer.

    Args:
        norms: of the layers; nothing is checked if empty.
        trains_other_params: whether the adapter has parameters besides A and B, which may have changed.
        name: of the saved model, for the message.

    Raises:
        CheckpointError: all norms are zero.
    """
    if norms and not any(norms.values()) and not trains_other_params:
        raise CheckpointError(
            key=f"{name}: adapter",
            got=f"zeros in all {len(norms)} layers",
            expected="at least one non-zero layer after training",
            fix="check optimizer.lr, the number of steps and the warnings of the run",
        )


def trains_other_params(model: nn.Module) -> bool:
    """Whether an adapter has parameters besides A and B: full layers, or rows of new tokens."""
    configs = model.peft_config.values() if isinstance(model, PeftModel) else ()
    return any(config.modules_to_save or config.trainable_token_indices for config in configs)


def summarize_norms(norms: Mapping[str, float]) -> str:
    """Format minimum, median and maximum of the norms, and the number of zeros, as one line."""
    values = sorted(norms.values())
    zeros = [name for name, norm in norms.items() if norm == 0]
    line = (
        f"adapter norms ‖ΔW‖ of {len(values)} layers: min {values[0]:.3g}, median {median(values):.3g}, "
        f"max {values[-1]:.3g}"
    )
    return f"{line}; {len(zeros)} zero (e.g. {zeros[0]})" if zeros else line
