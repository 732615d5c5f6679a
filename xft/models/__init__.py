"""Models: load them, adapt them, run them on batches, let them answer."""

from xft.compat import peft  # isort: skip  # noqa: F401

from xft.models.adapters.lora import LoRA, adds_nothing
from xft.models.attention import PACKED
from xft.models.generation import Answer, Generator
from xft.models.loading import LoadedModel
from xft.models.model_config import CausalLMConfig, RewardModelConfig, check_quantization
from xft.models.quantization import NF4, Int8, Quantization
from xft.models.saved_model import Note, find_artifact, open_artifact, read_note, save_artifact
from xft.models.training_model import TrainingModel, target_logits, target_loss, unwrap

__all__ = [
    "NF4",
    "PACKED",
    "Answer",
    "CausalLMConfig",
    "Generator",
    "Int8",
    "LoRA",
    "LoadedModel",
    "Note",
    "Quantization",
    "RewardModelConfig",
    "TrainingModel",
    "adds_nothing",
    "check_quantization",
    "find_artifact",
    "open_artifact",
    "read_note",
    "save_artifact",
    "target_logits",
    "target_loss",
    "unwrap",
]
