"""Data types that packages exchange: messages, samples, batches, losses.

Those of tensors are imported when they are used: rows are read and checked without torch.
"""

from typing import TYPE_CHECKING

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
from xft.types.image import IMAGE_PLACE, Image
from xft.types.sample import IGNORE_INDEX, IntArray, Sample
from xft.utils.lazy import lazy_names

if TYPE_CHECKING:
    from xft.types.batch import Batch, ImageInputs, ImageProcessor, PolicyTargets, SequenceParallelGroup
    from xft.types.loss import LossFunction, LossOutput
else:
    __getattr__ = lazy_names(
        __name__,
        {
            **dict.fromkeys(("Batch", "ImageInputs", "ImageProcessor"), "xft.types.batch"),
            **dict.fromkeys(("PolicyTargets", "SequenceParallelGroup"), "xft.types.batch"),
            **dict.fromkeys(("LossFunction", "LossOutput"), "xft.types.loss"),
        },
    )

__all__ = [
    "IGNORE_INDEX",
    "IMAGE_PLACE",
    "ROLES",
    "Batch",
    "Conversation",
    "Image",
    "ImageInputs",
    "ImageProcessor",
    "IntArray",
    "LossFunction",
    "LossOutput",
    "Message",
    "Messages",
    "PolicyTargets",
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
