"""Config of vision-language models: ``model=dict(type="vision_language", ...)``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from PIL import Image
from transformers import PreTrainedModel

from xft.errors import ConfigError
from xft.models.adapters.full_modules import upcast_full_modules
from xft.models.adapters.lora import LoRA
from xft.models.compiled_layers import compile_layers
from xft.models.fused_norm_mlp import fuse_modules
from xft.models.loading import LoadedModel, load_config
from xft.models.model_config import CausalLMConfig
from xft.models.model_options import ModelOptions, model_options
from xft.models.quantization import Quantization
from xft.models.reward_head import ModelKind, check_kind
from xft.models.vision.isolation import attach_processor, packing_problem
from xft.models.vision.parts import PARTS, check_modes, vision_parts
from xft.models.vision.processor import VisionProcessor
from xft.models.vision.restricted_targets import restrict_targets
from xft.registry import register
from xft.types import Tokenizer
from xft.types.ranges import Count, Positive

_FILLER_SIZE = (32, 32)


@register("model", "vision_language")
@dataclass
class VisionLanguageConfig(CausalLMConfig):
    """A vision-language model: a vision tower, a projector, and a language model that sees images.

    Loaded as ``AutoModelForImageTextToText`` with its ``AutoProcessor``. Further arguments are those of
    :class:`~xft.models.model_config.CausalLMConfig`.

    Args:
        train: how each part (``vision``, ``projector``, ``language``) is trained: ``frozen``, ``lora`` or ``full``. By
            default the language model is trained, with the adapter if there is one, and the others are frozen.
        lr: learning rate of a part, by default that of the optimizer.
        max_pixels: pixels to which a larger image is reduced, for models whose tokens follow the size of an image.
        min_pixels: pixels to which a smaller image is enlarged, likewise.

    Raises:
        ConfigError: NEFTune or an unknown part is requested.
    """

    train: Mapping[str, str] = field(default_factory=dict)
    lr: Mapping[str, Positive] = field(default_factory=dict)
    max_pixels: Count | None = None
    min_pixels: Count | None = None

    kind: ClassVar[ModelKind] = "vision_language"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neftune_alpha is not None:
            raise ConfigError(
                key="model.neftune_alpha",
                got=self.neftune_alpha,
                expected="None: the features of images take the place of embeddings",
            )
        check_modes(self.train, has_adapter="lora" in self.train.values())
        check_modes(dict.fromkeys(self.lr, "frozen") | {"language": "full"}, has_adapter=False)

    def load_processor(self, tokenizer: Tokenizer) -> VisionProcessor:
        """Load the image processor.

        Raises:
            ModelError: there is no processor, or it has no such options.
        """
        limits = {"max_pixels": self.max_pixels, "min_pixels": self.min_pixels}
        options = {name: value for name, value in limits.items() if value is not None}
        base = self.resolve_source().base
        config = load_config(base, self.trust_remote_code)
        check_kind(base, config, self.kind)
        return VisionProcessor(base, config, tokenizer, self.trust_remote_code, options)

    def load(
        self,
        tokenizer: Tokenizer,
        device: torch.device,
        adapter: LoRA | None = None,
        quantization: Quantization | None = None,
    ) -> LoadedModel:
        """Load the model as :class:`CausalLMConfig` does, with the parts frozen or trainable.

        Raises:
            ModelError, ConfigError: as there; or ``train`` does not go with the adapter section.
        """
        self._modes = check_modes(self.train, adapter is not None)
        self._processor = self.load_processor(tokenizer)
        loaded = super().load(tokenizer, device, adapter, quantization)
        if {self._modes["vision"], self._modes["projector"]} != {"frozen"}:
            self._processor.filler = self._processor.sample("", [Image.new("RGB", _FILLER_SIZE)])
        loaded.measured_packing_problem = packing_problem(loaded.base, self._processor)
        return loaded

    def _prepare(self, model: PreTrainedModel, device: torch.device, stored: str | None) -> None:
        names = vision_parts(model)
        self._set_options(
            model, device, ModelOptions(self.fused_kernels, self.router_aux_loss_coef, stored)
        )
        attach_processor(model, self._processor)
        if self.lr:
            model_options(model).lr_of = lambda name: self.lr.get(
                names.part_of(name.removeprefix("base_model.model."))
            )
        if self.fused_kernels:
            fuse_modules(model.get_submodule(names.decoder))
        if self.torch_compile:
            compile_layers(model.get_submodule(names.decoder), device)
        self._check_head(model, device)

    def _freeze_parts(self, model: PreTrainedModel) -> None:
        names = vision_parts(model)
        for name, param in model.named_parameters():
            param.requires_grad_(self._modes.get(names.part_of(name)) == "full")
        if self._modes["language"] == "frozen":
            upcast_full_modules(model)

    def _select_targets(self, adapter: LoRA, model: PreTrainedModel) -> LoRA:
        """Restrict an adapter to the parts that are trained with it; save with it the parts that are trained fully."""
        names = vision_parts(model)
        restricted = restrict_targets(adapter, model, names, self._modes)
        full = [
            name for part in PARTS if self._modes[part] == "full" for name in names.modules_of(model, part)
        ]
        if full:
            restricted.modules_to_save = [*(adapter.modules_to_save or []), *full]
        return restricted
