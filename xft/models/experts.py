"""Find the routed experts and the routers of a mixture-of-experts model.

transformers fuses the experts of a layer: ``gate_up_proj`` and ``down_proj`` are parameters of shape
``(experts, out, in)`` or ``(experts, in, out)``. Models with code of their own may keep one module per expert. Both are
found by their structure, so that new families need no entry in a table.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from xft.models.param_shapes import original_shape

_ROUTER = re.compile(r"(^|_)(router|gate|gating|wg)$")
"""Names of the modules next to experts that choose among them, or weight shared experts."""


@dataclass
class Experts:
    """Names of the parts of a mixture-of-experts model.

    Attributes:
        blocks: modules that hold the experts of one layer each.
        parameters: fused weights, one for all experts of a layer.
        linears: linear layers of experts that are not fused.
        routers: modules that compute the weights of the experts, the gates of shared experts included.
        num_experts: number of routed experts of a layer.
    """

    blocks: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    linears: list[str] = field(default_factory=list)
    routers: list[str] = field(default_factory=list)
    num_experts: int = 0


def find_experts(model: nn.Module) -> Experts | None:
    """Return the experts and routers of a transformers model; ``None`` for a dense model.

    Args:
        model: with or without adapter layers; the names are those without.
    """
    experts = Experts()
    # The module inside an adapter layer follows it, and replaces it here.
    modules = {_plain_name(name): module for name, module in model.named_modules() if ".lora_" not in name}
    for name, module in modules.items():
        if not _is_experts(name, module):
            continue
        experts.blocks.append(name)
        if is_fused(module):
            experts.parameters += [f"{name}.{key}" for key, _ in fused_weights(module)]
            experts.num_experts = num_fused(module)
        else:
            experts.linears += [
                path for path, layer in _inside(modules, name) if isinstance(layer, nn.Linear)
            ]
            experts.num_experts = len(list(module.children()))
    for block in dict.fromkeys(name.rpartition(".")[0] for name in experts.blocks):
        experts.routers += _routers(block, modules[block], experts)
    return experts if experts.blocks else None


def expert_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the modules that hold the experts of one layer and their router, inside any wrappers."""
    modules = dict(model.named_modules())
    names = [_plain_name(name) for name in modules if _is_experts(name, modules[name])]
    plain = {_plain_name(name): module for name, module in reversed(modules.items())}
    return [plain[name.rpartition(".")[0]] for name in dict.fromkeys(names)]


def describe_experts(model: nn.Module) -> str:
    """Return one line on which experts and routers are trained; empty for a dense model.

    Args:
        model: of transformers, with or without adapter layers.
    """
    experts = find_experts(model)
    if experts is None:
        return ""
    trained = [_plain_name(name) for name, param in model.named_parameters() if param.requires_grad]
    has_adapter = any(".lora_" in name for name in trained)

    def state(parts: list[str]) -> str:
        names = [name for name in trained if name.startswith(tuple(f"{part}." for part in parts))]
        if not names:
            return "frozen"
        return "LoRA" if any(".lora_" in name for name in names) else "trained"

    parts = [state(experts.blocks), f"router {state(experts.routers)}"]
    if has_adapter and parts[0] == "frozen":
        parts[0] += " (adapter.target_modules='all' adapts them)"
    elif has_adapter and experts.parameters:
        parts[0] += " without dropout"
    return f"{experts.num_experts} in each of {len(set(experts.blocks))} layers: {', '.join(parts)}"


def _plain_name(name: str) -> str:
    return name.replace(".base_layer", "").replace(".modules_to_save.default", "")


def is_fused(module: nn.Module) -> bool:
    """Return whether a module holds the fused weights of several experts."""
    return "Experts" in type(module).__name__ and any(True for _ in fused_weights(module))


def num_fused(module: nn.Module) -> int:
    """Return the number of experts whose weights a module holds."""
    return next(shape[0] for _, shape in fused_weights(module))


def fused_weights(module: nn.Module) -> Iterator[tuple[str, torch.Size]]:
    """Yield name and shape of the weights of a module that have a dimension for the experts, without biases."""
    for name, param in module.named_parameters(recurse=False):
        if len(original_shape(param)) == 3:
            yield name, original_shape(param)
    if is_parametrized(module):
        for name, parts in module.parametrizations.items():  # type: ignore[union-attr, operator]
            yield name, original_shape(parts.original)


def _is_experts(name: str, module: nn.Module) -> bool:
    """Return whether a module holds the experts of a layer: fused, or one module per expert."""
    if is_fused(module):
        return True
    is_list = isinstance(module, nn.ModuleList | nn.ModuleDict)
    return is_list and name.rpartition(".")[2] == "experts" and len(list(module.children())) > 0


def _inside(modules: dict[str, nn.Module], name: str) -> Iterator[tuple[str, nn.Module]]:
    return ((path, module) for path, module in modules.items() if path.startswith(f"{name}."))


def _routers(block: str, module: nn.Module, experts: Experts) -> Iterator[str]:
    """Yield the routers among the children of a module that has experts.

    A name alone does not decide: layers of other kinds are called gates too. A router has one output per expert, and
    the gate of a shared expert has one.
    """
    for name, child in module.named_children():
        path = f"{block}.{name}" if block else name
        shapes = [original_shape(param) for param in child.parameters()]
        sizes = {shape[0] for shape in shapes if len(shape) == 2}
        if path not in experts.blocks and _ROUTER.search(name) and sizes & {1, experts.num_experts}:
            yield path
