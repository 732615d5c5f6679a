"""Models: loading, adapters, scoring of batches, text generation and saved models."""

from xft.compat import peft  # isort: skip  # noqa: F401

from xft.models.adapters.lora import LoRA, is_identity_adapter
from xft.models.attention import ATTN_IMPLEMENTATION
from xft.models.generation import Completion, TextGenerator
from xft.models.loading import LoadedModel
from xft.models.model_config import CausalLMConfig, RewardModelConfig, check_quantization
from xft.models.quantization import NF4, Int8, Quantization
from xft.models.saved_model import (
    ModelMetadata,
    find_saved_model,
    load_saved_model,
    read_metadata,
    save_model,
)
from xft.models.scoring import target_logits, target_loss
from xft.models.training_model import TrainingModel, unwrap
from xft.models.vision.llava import LlavaPartsConfig
from xft.models.vision.vision_config import VisionLanguageConfig

__all__ = [
    "ATTN_IMPLEMENTATION",
    "NF4",
    "CausalLMConfig",
    "Completion",
    "Int8",
    "LlavaPartsConfig",
    "LoRA",
    "LoadedModel",
    "ModelMetadata",
    "Quantization",
    "RewardModelConfig",
    "TextGenerator",
    "TrainingModel",
    "VisionLanguageConfig",
    "check_quantization",
    "find_saved_model",
    "is_identity_adapter",
    "load_saved_model",
    "read_metadata",
    "save_model",
    "target_logits",
    "target_loss",
    "unwrap",
]
