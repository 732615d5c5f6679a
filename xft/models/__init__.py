"""Models: load them, adapt them, run them on batches, let them answer."""

from xft.models.adapters import LoRA
from xft.models.artifact import Note, find_artifact, open_artifact, read_note, save_artifact
from xft.models.attention import PACKED
from xft.models.generate import Answer, Generator
from xft.models.load import NF4, CausalLM, LoadedModel
from xft.models.wrapper import TrainingModel, target_logits

__all__ = [
    "NF4",
    "PACKED",
    "Answer",
    "CausalLM",
    "Generator",
    "LoRA",
    "LoadedModel",
    "Note",
    "TrainingModel",
    "find_artifact",
    "open_artifact",
    "read_note",
    "save_artifact",
    "target_logits",
]
