"""Restrict training to parts of a multimodal model: by default to its language model."""

import copy
import re
from collections.abc import Callable, Mapping

from torch import nn
from transformers import PreTrainedModel

from xft.errors import ConfigError
from xft.models.adapters.layer_names import ALL_LINEAR, SHORTHANDS, check_layer_names
from xft.models.adapters.lora import LoRA
from xft.models.adapters.targets import find_targets, linear_layers, selects
from xft.models.vision.parts import Part, PartMode, PartNames, parts_of

LANGUAGE_ONLY: Mapping[Part, PartMode] = {"language": "lora"}
_MIN_WORD = 3


def freeze_other_parts(model: PreTrainedModel) -> None:
    """Freeze what is not part of the language model, if the model has other parts."""
    if (names := parts_of(model)) is not None:
        for name, param in model.named_parameters():
            if names.part_of(name) != "language":
                param.requires_grad_(False)


def restrict_to_language(adapter: LoRA, model: PreTrainedModel) -> LoRA:
    """Return the adapter section without layers outside of the language model, except those that are asked for.

    An entry of ``target_modules``, or the regular expression, asks for a layer by a word of its path that is in no path of
    the language model, such as ``vision_tower`` or ``fc1``.

    Args:
        adapter: adapter section.
        model: a multimodal model, or a text model, which has no other layers.

    Raises:
        ConfigError: no layer is left.
    """
    names = parts_of(model)
    return adapter if names is None else restrict_targets(adapter, model, names, LANGUAGE_ONLY, _asks_for)


def restrict_targets(
    adapter: LoRA,
    model: PreTrainedModel,
    names: PartNames,
    modes: Mapping[Part, PartMode],
    asks_for: Callable[[LoRA, str, str], bool] = lambda *_: False,
) -> LoRA:
    """Return an adapter section that names exactly the layers and parameters of the parts with ``lora``.

    Args:
        adapter: adapter section.
        model: of transformers, without its adapter.
        names: parts of the model.
        modes: how each part is trained; one that is missing is frozen.
        asks_for: whether the section asks for a layer of another part; given the section, the path of the layer, and all
            paths of the language model as one text.

    Raises:
        ConfigError: an entry matches no layer, or no layer is left.
    """
    check_layer_names(model, adapter.target_modules, adapter.modules_to_save or [])
    modules = dict(model.named_modules())
    language = "\n".join(name for name in modules if names.part_of(name) == "language")

    def is_adapted(name: str) -> bool:
        part = names.part_of(name)
        if modes.get(part) != "lora" and not asks_for(adapter, name, language):
            return False
        # Towers also have wrappers of layers, which peft cannot adapt, under the names of layers.
        return part == "language" or isinstance(modules[name], nn.Linear)

    selected, every = _selected(model, adapter)
    kept = [name for name in selected if is_adapted(name)]
    if not kept:
        raise ConfigError(
            key="adapter.target_modules",
            got=adapter.target_modules,
            expected="layers of the language model, or of the parts with 'lora' in model.train",
        )
    restricted = copy.copy(adapter)
    restricted.target_modules = _shortened(every, kept, names.decoder)
    return restricted


def _selected(model: PreTrainedModel, adapter: LoRA) -> tuple[list[str], list[str]]:
    """Return the layers and parameters that an adapter section selects, and the names of all."""
    targets = find_targets(model, adapter.target_modules)
    every = [name for name, _ in model.named_modules() if name]
    if targets.modules == ALL_LINEAR:
        return linear_layers(model), every
    layers = [name for name in every if selects(targets.modules, name)]
    known = dict.fromkeys(name for name, _ in model.named_parameters())
    if targets.experts is not None:
        known |= dict.fromkeys(targets.experts.parameters)
    return [*layers, *(name for name in known if selects(targets.parameters, name))], [*every, *known]


def _asks_for(adapter: LoRA, layer: str, language: str) -> bool:
    entries = adapter.target_modules
    if isinstance(entries, str) and entries.lower() in SHORTHANDS:
        return False
    for entry in [entries] if isinstance(entries, str) else entries:
        words = [word for word in re.findall(r"[A-Za-z]\w+", entry) if len(word) >= _MIN_WORD]
        is_selected = selects(entries if isinstance(entries, str) else [entry], layer)
        if is_selected and any(word in layer and word not in language for word in words):
            return True
    return False


def _shortened(every: list[str], names: list[str], decoder: str) -> str | list[str]:
    """Return a regular expression that matches exactly these names; the names themselves if there is none."""
    leaves = sorted({name.rpartition(".")[2] for name in names})
    prefix = f"{re.escape(decoder)}\\." if decoder else ""
    pattern = rf"{prefix}(?:.+\.)?(?:{'|'.join(map(re.escape, leaves))})"
    matched = [name for name in every if re.fullmatch(pattern, name)]
    return pattern if sorted(matched) == sorted(names) else names
