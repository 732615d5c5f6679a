"""Resolve ``target_modules`` to the layers and parameters that get LoRA weights.

peft reads ``target_modules`` of a mixture-of-experts model as names of version 4 of transformers, in which each expert had
its own linear layers: ``all-linear`` then adapts experts and routers in some families, with twice the rank, and loses
the layers of shared experts in others. Here the layers of such a model are named one by one.
"""

import inspect
import re
from collections import Counter
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from functools import cache

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import _maybe_include_all_linear_layers
from torch import nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from xft.errors import ConfigError
from xft.models import segments
from xft.models.adapters.layer_names import ALL_LINEAR, SHORTHANDS, is_match
from xft.models.experts import Experts, find_experts
from xft.models.stored_formats import packed_layers

_WEIGHT_ONLY = re.compile(r"\bself\.(\w+_proj)\.weight\b(?!\.(dtype|device))")
_ATTENTION = re.compile(r"attn|attention|mixer|mamba|temporal_block")


@dataclass(frozen=True)
class Targets:
    """What an adapter adapts.

    Attributes:
        modules: ``target_modules`` of peft.
        parameters: ``target_parameters`` of peft: fused experts, and routers that are no linear layers.
        experts: the experts of the model; ``None`` for a dense model.
    """

    modules: str | list[str]
    parameters: list[str] = field(default_factory=list)
    experts: Experts | None = None


def find_targets(model: PreTrainedModel, target_modules: str | list[str]) -> Targets:
    """Resolve the value of ``adapter.target_modules``, whose names were checked before.

    Raises:
        ConfigError: the value asks for experts or attention, and the model has none; or for a layer whose LoRA weights
            the model would not use.
    """
    experts = find_experts(model)
    kind = target_modules.lower() if isinstance(target_modules, str) else None
    unused = [*weight_only_layers(model), *shared_layers(model), *grouped_layers(model)]
    if kind not in SHORTHANDS:
        _check_used(model, target_modules, unused)
        return Targets(target_modules) if experts is None else _matching(model, target_modules, experts)
    packed = packed_layers(model)
    if experts is None and not packed and not unused and kind in (ALL_LINEAR, "all"):
        return Targets(ALL_LINEAR)
    frozen = unused if experts is None else [*unused, *experts.routers, *experts.linears]
    layers = [name for name in [*linear_layers(model), *packed] if not _is_inside(name, frozen)]
    if kind == "attention":
        layers = [name for name in layers if _ATTENTION.search(name)]
    elif kind == "experts":
        layers = []
    if experts is not None and kind in ("experts", "all"):
        layers += experts.linears
    parameters = experts.parameters if experts is not None and kind in ("experts", "all") else []
    if not layers and not parameters:
        raise ConfigError(
            key="adapter.target_modules",
            got=target_modules,
            expected="'all-linear' or names of layers, as the model has no "
            f"{'attention layers' if kind == 'attention' else 'routed experts'}",
        )
    return _shortened(model, layers, parameters, experts)


def weight_only_layers(model: nn.Module) -> list[str]:
    """Return the linear layers of state-space modules whose weight is used without a call of the layer.

    Fused kernels of Mamba take the weights of ``out_proj``, and in its first version also of ``x_proj`` and ``dt_proj``.
    LoRA on such a layer would be left out in training, and added when it is merged.
    """
    layers = []
    for path, module in model.named_modules():
        children = dict(module.named_children())
        if isinstance(children.get("conv1d"), nn.Conv1d):
            mixer: object = type(module)
            names = [name for name in _weight_only(mixer) if isinstance(children.get(name), nn.Linear)]
            layers += [f"{path}.{name}" for name in names]
    return layers


def shared_layers(model: nn.Module) -> list[str]:
    """Return the linear layers that share one weight with another one (Zamba).

    Each would get LoRA weights of its own, and merging would add all of them to the same weight.
    """
    layers = {
        name: module.weight for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    count = Counter(map(id, layers.values()))
    return [name for name, weight in layers.items() if count[id(weight)] > 1]


def grouped_layers(model: nn.Module) -> list[str]:
    """Return the layers of subclasses of ``nn.Linear`` that compute something else, such as one product per group (DeepSeek V4).

    LoRA on such a layer would fail, or add the update of another function.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and type(module).__module__.startswith("transformers.models.")
    }
    is_plain = {type(module): _is_plain(module) for module in layers.values()}
    return [name for name, module in layers.items() if not is_plain[type(module)]]


def _is_plain(layer: nn.Linear) -> bool:
    """Measure whether a layer with random weights computes ``x Wᵀ + b``."""
    generator = torch.Generator().manual_seed(0)
    twin = copy(layer)
    twin._parameters = {
        name: None if param is None else nn.Parameter(torch.randn(param.shape, generator=generator))
        for name, param in layer._parameters.items()
    }
    x = torch.randn(1, 2, layer.in_features, generator=generator)
    try:
        with torch.no_grad():
            return torch.allclose(twin(x), linear(x, twin.weight, twin.bias), rtol=1e-3, atol=1e-3)
    except Exception:  # noqa: BLE001  Any class may fail in any way on the input of a linear layer.
        return False


@cache
def _weight_only(module_class: type[nn.Module]) -> list[str]:
    # A class that computes sample by sample has no source.
    source = next(
        inspect.getsource(base) for base in module_class.__mro__ if base.__module__ != segments.__name__
    )
    return sorted({match[1] for match in _WEIGHT_ONLY.finditer(source)})


def _check_used(model: nn.Module, target_modules: str | list[str], unused: list[str]) -> None:
    selected = [name for name in unused if selects(target_modules, name)]
    if selected:
        raise ConfigError(
            key="adapter.target_modules",
            got=selected[0],
            expected="linear layers that the model calls, with a weight of their own: a kernel takes the weight of this "
            "one without LoRA, several layers share it, or it computes more than one product",
            fix="set adapter.target_modules='all-linear', or name other layers",
        )


def selects(target_modules: str | list[str], name: str) -> bool:
    """Return whether names or a regular expression select a layer or parameter, by the rules of peft."""
    if isinstance(target_modules, str):
        return re.fullmatch(target_modules, name) is not None
    return any(is_match(entry, name) for entry in target_modules)


def _matching(model: PreTrainedModel, target_modules: str | list[str], experts: Experts) -> Targets:
    """Return the layers and parameters that names or a regular expression select."""
    named = [name for name in _module_names(model) if selects(target_modules, name)]
    parameters = [name for name in experts.parameters if selects(target_modules, name)]
    # Routers are modules of other classes than nn.Linear, or of subclasses with another output.
    parameters += [f"{name}.weight" for name in named if _is_router(model, name, experts)]
    layers = [name for name in named if not _is_router(model, name, experts)]
    return _shortened(model, layers, parameters, experts)


def _shortened(
    model: nn.Module, layers: list[str], parameters: list[str], experts: Experts | None
) -> Targets:
    known = {name for name, _ in model.named_parameters()} | set(parameters)
    return Targets(shorten(layers, _module_names(model)), shorten(parameters, known), experts)


def _is_router(model: PreTrainedModel, name: str, experts: Experts) -> bool:
    return name in experts.routers and type(model.get_submodule(name)) is not nn.Linear


def shorten(names: Iterable[str], every: Iterable[str]) -> list[str]:
    """Return the ends of paths that select the same layers: ``q_proj`` in place of one path per layer.

    Args:
        names: full paths of layers or of parameters.
        every: full paths of all of them.
    """
    total = Counter(end for name in every for end in _ends(name))
    selected = Counter(end for name in names for end in _ends(name))
    return sorted({next(end for end in _ends(name) if selected[end] == total[end]) for name in names})


def _ends(name: str) -> list[str]:
    """Return the last part of a path, the last two parts, and the path."""
    parts = name.split(".")
    return list(dict.fromkeys(".".join(parts[-count:]) for count in (1, 2, len(parts))))


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Return the linear layers that peft means by ``all-linear``."""
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=ALL_LINEAR)
    if model.get_output_embeddings() is None:
        config.task_type = "SEQ_CLS"
    return sorted(_maybe_include_all_linear_layers(config, model).target_modules)


def _module_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules() if name]


def _is_inside(name: str, parents: list[str]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)
