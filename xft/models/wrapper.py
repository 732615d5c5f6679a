"""The module that the runner trains: a model and the objective that it is trained with."""

from typing import Any

import torch
from torch import Tensor, nn

from xft.models.attention import PACKED, placeholder_mask
from xft.types import IGNORE_INDEX, Batch, LossOutput, Objective


class TrainingModel(nn.Module):
    """A model behind an objective: ``forward(batch)`` gives the loss.

    It is one module so that whatever wraps modules (DDP, DeepSpeed) wraps the whole of it.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> LossOutput:
        """The loss of a batch, summed over its targets."""
        return self.objective(self.model, batch)


def target_logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The logits that predict trained tokens, and those tokens.

    Only positions whose next token is trained go through the head.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        batch: flat or padded.

    Returns:
        ``(targets, vocabulary)`` logits in the model's type, and ``(targets,)`` token ids.
    """
    following = torch.full_like(batch.labels, IGNORE_INDEX)
    following[:, :-1] = batch.labels[:, 1:]
    keep = following != IGNORE_INDEX
    arguments: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "attention_mask": batch.attention_mask,
        "use_cache": False,
    }
    config: Any = model.config
    if batch.segment_lengths and config._attn_implementation == PACKED:
        arguments["attention_mask"] = placeholder_mask(batch.input_ids.device)
        arguments["segment_lengths"] = batch.segment_lengths
    logits: Tensor = model(**arguments, logits_to_keep=keep).logits
    if logits.ndim == 3:  # a model that keeps all positions, or keeps the batch dimension
        logits = logits[keep] if logits.shape[:2] == keep.shape else logits.flatten(0, 1)
    return logits, following[keep]
