"""Models: load them, adapt them, run them on batches, let them answer."""

from xft.compat import peft  # isort: skip  # noqa: F401

from xft.models.adapters.lora import LoRA, adds_nothing
from xft.models.attention import PACKED
from xft.models.generation import Answer, Generator
from xft.models.loading import CausalLM, LoadedModel
from xft.models.quantization import NF4, Int8
from xft.models.reward_model import RewardModel
from xft.models.saved_model import Note, find_artifact, open_artifact, read_note, save_artifact
from xft.models.training_model import TrainingModel, target_logits, target_loss

__all__ = [
    "NF4",
    "PACKED",
    "Answer",
    "CausalLM",
    "Generator",
    "Int8",
    "LoRA",
    "LoadedModel",
    "Note",
    "RewardModel",
    "TrainingModel",
    "adds_nothing",
    "find_artifact",
    "open_artifact",
    "read_note",
    "save_artifact",
    "target_logits",
    "target_loss",
]
