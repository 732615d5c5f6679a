"""Parts of a vision-language model: the language model, the vision tower, and the projector between them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from xft.errors import ConfigError, ModelError
from xft.models.attention import ATTN_IMPLEMENTATION
from xft.models.families import OTHER_PARTS
from xft.models.reward_head import LOADERS, ModelKind

Part = Literal["vision", "audio", "projector", "language"]
PARTS: tuple[Part, ...] = ("vision", "projector", "language")
"""Parts that a config names. An audio encoder and its projector are always frozen: rows have no audio."""
PartMode = Literal["frozen", "lora", "full"]
_INNER_PROJECTORS = re.compile(
    r"(^|\.)(merger|deepstack_merger_list|patch_merger|downsample_projector)(\.|$)"
)
"""Modules of a vision tower that map its features to the language model."""
_AUDIO = re.compile(r"audio|speech")


class PartNames:
    """Assign modules and parameters of a model to its parts, by their names.

    Args:
        model: of transformers, without its adapter.

    Attributes:
        decoder: name of the language model without its head; empty if it is the base model, with other parts inside.
        vision: name of the vision tower, if there is one.
        others: names of an audio encoder, and of parts that :data:`~xft.models.families.OTHER_PARTS` lists.
        heads: names of the heads of the language model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        names = {module: name for name, module in model.named_modules()}

        def place(module: nn.Module | None) -> list[str]:
            name = "" if module is None else names.get(module, "")
            return [] if name in ("", model.base_model_prefix) else [name]

        self.decoder = next(iter(place(model.get_decoder())), "")
        self.vision = place(model.get_encoder(modality="image"))
        self.others = [
            *place(model.get_encoder(modality="audio")),
            *OTHER_PARTS.get(model.config.model_type, ()),
        ]
        # The head of a reward model is no output embedding.
        self.heads = [
            *place(model.get_output_embeddings()),
            *place(dict(model.named_children()).get("score")),
        ]

    def part_of(self, name: str) -> Part:
        """Return the part that a module or a parameter belongs to."""
        if _is_in(name, self.vision):
            return "projector" if _INNER_PROJECTORS.search(name) else "vision"
        inside = _is_in(name, [self.decoder, *self.heads]) if self.decoder else True
        if inside and not _is_in(name, self.others):
            return "language"
        return "audio" if _AUDIO.search(name) else "projector"

    def modules_of(self, model: nn.Module, part: Part) -> list[str]:
        """Return the names of the outermost modules, lists excepted, whose parameters all belong to a part."""
        chosen: list[str] = []
        for name, module in model.named_modules():
            if not name or _is_in(name, chosen):
                continue
            params = [f"{name}.{inner}" for inner, _ in module.named_parameters()]
            if (
                params
                and not isinstance(module, nn.ModuleList)
                and all(self.part_of(param) == part for param in params)
            ):
                chosen.append(name)
        return chosen


def _is_in(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def parts_of(model: PreTrainedModel) -> PartNames | None:
    """Return the parts of a multimodal model; ``None`` for a text model."""
    if not is_multimodal(model.config):
        return None
    names = PartNames(model)
    has_others = any(names.part_of(name) != "language" for name, _ in model.named_parameters())
    return names if has_others else None


def vision_parts(model: PreTrainedModel) -> PartNames:
    """Return the parts of a vision-language model.

    Raises:
        ModelError: language model or vision tower are no modules of their own.
    """
    names = PartNames(model)
    if not (names.decoder and names.vision):
        raise ModelError(
            key="model.path",
            got=type(model).__name__,
            expected="a model with a vision tower and a language model as modules of their own",
        )
    return names


def check_modes(train: Mapping[Any, Any], has_adapter: bool) -> dict[Part, PartMode]:
    """Complete and check how the parts are trained.

    Args:
        train: ``model.train``: mode by part. By default the language model is trained, and the others are frozen.
        has_adapter: whether the config has an adapter section.

    Raises:
        ConfigError: a part or a mode is unknown, or does not go with the adapter section.
    """
    defaults: dict[Any, Any] = {
        "vision": "frozen", "projector": "frozen", "language": "lora" if has_adapter else "full",
    }  # fmt: skip
    for part, mode in train.items():
        key = f"model.train.{part}"
        if part not in PARTS:
            raise ConfigError(key=key, got=part, expected=f"one of {', '.join(PARTS)}")
        if mode not in ("frozen", "lora", "full"):
            raise ConfigError(key=key, got=mode, expected="'frozen', 'lora' or 'full'")
        if mode == "lora" and not has_adapter:
            raise ConfigError(
                key=key, got=mode, expected="'full' or 'frozen' without an adapter section",
                fix="add adapter=dict(type='lora')",
            )  # fmt: skip
        if mode == "full" and has_adapter and part == "language":
            raise ConfigError(
                key=key, got=mode, expected="'lora' or 'frozen' with an adapter section, which is saved without the base",
                fix="set adapter=None, or train this part with 'lora'",
            )  # fmt: skip
    modes: dict[Part, PartMode] = {**defaults, **train}
    if set(modes.values()) == {"frozen"}:
        raise ConfigError(key="model.train", got=dict(train), expected="at least one part that is trained")
    if has_adapter and "lora" not in modes.values():
        raise ConfigError(
            key="adapter",
            got="an adapter section",
            expected="a part with 'lora' in model.train",
            fix="set adapter=None",
        )
    return modes


def is_multimodal(config: PretrainedConfig) -> bool:
    """Return whether a model with this config may have parts that see images or hear audio."""
    others = {"vision_config", "audio_config"} & config.sub_configs.keys()
    return bool(others) or config.model_type in OTHER_PARTS


def unquantized_modules(config: PretrainedConfig, kind: ModelKind) -> list[str] | None:
    """Return the modules that quantization leaves out: all of a multimodal model but its language model, and the head.

    Args:
        config: of the model.
        kind: kind that the model is loaded as.

    Returns:
        Names of modules; ``None`` for a text model, of which quantization leaves out the head by itself.
    """
    if not is_multimodal(config):
        return None
    with torch.device("meta"):
        model = LOADERS[kind].from_config(config)
    if (names := parts_of(model)) is None:
        return None
    others: tuple[Part, ...] = ("vision", "audio", "projector")
    return [*(name for part in others for name in names.modules_of(model, part)), *names.heads]


def vision_attention(config: PretrainedConfig, requested: str) -> dict[str, str]:
    """Return the attention of the language model of a vision-language model; the tower gets its default."""
    text = config.get_text_config()
    name = next(name for name in config.sub_configs if getattr(config, name) is text)
    return {name: ATTN_IMPLEMENTATION if requested == "auto" else requested}
