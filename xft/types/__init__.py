"""Data types that packages exchange: messages, samples, batches, losses."""

from xft.types.batch import Batch, SequenceParallelGroup
from xft.types.chat import (
    ROLES,
    Conversation,
    Message,
    Messages,
    PreferencePair,
    Role,
    Row,
    Segment,
    SourceTurn,
    Tokenizer,
    ToolCall,
    Tools,
    UnpairedExample,
)
from xft.types.loss import LossFunction, LossOutput
from xft.types.sample import IGNORE_INDEX, IntArray, Sample

__all__ = [
    "IGNORE_INDEX",
    "ROLES",
    "Batch",
    "Conversation",
    "IntArray",
    "LossFunction",
    "LossOutput",
    "Message",
    "Messages",
    "PreferencePair",
    "Role",
    "Row",
    "Sample",
    "Segment",
    "SequenceParallelGroup",
    "SourceTurn",
    "Tokenizer",
    "ToolCall",
    "Tools",
    "UnpairedExample",
]
