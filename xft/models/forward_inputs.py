"""Keyword arguments of a model's forward call for a batch, or for this rank's slice of it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from xft.distributed import padded_length, split_sequence
from xft.kernels.shapes import MULTIPLE
from xft.models.attention import ATTN_IMPLEMENTATION, unused_mask
from xft.models.model_options import model_options, transformers_config
from xft.models.neftune import add_embedding_noise
from xft.types import Batch


def forward_inputs(model: nn.Module, batch: Batch, full_sequence: bool = False) -> dict[str, Any]:
    """Build the keyword arguments of a forward call.

    Args:
        model: of transformers, with or without an adapter.
        batch: flat or padded.
        full_sequence: the caller selects positions itself: a flat batch may be padded, in a segment of its own,
            to a length that suits the kernels.
    """
    group, lengths = batch.sequence, batch.seq_lens
    fused_kernels = model_options(model).fused_kernels
    arguments: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "attention_mask": batch.attention_mask,
        "use_cache": False,
    }
    if group is not None:
        padding = padded_length(sum(lengths), group) - sum(lengths)
        lengths = [*lengths, padding] if padding else lengths
        arguments |= {
            "input_ids": split_sequence(batch.input_ids, group),
            "position_ids": split_sequence(batch.position_ids, group),
            "sequence": group,
        }
    elif full_sequence and lengths and fused_kernels:
        padding = -sum(lengths) % MULTIPLE
        lengths = [*lengths, padding] if padding else lengths
        for name in ("input_ids", "position_ids"):
            arguments[name] = pad(arguments[name], (0, padding))
    embeddings = add_embedding_noise(model, batch, arguments["input_ids"])
    if embeddings is not None:
        arguments["input_ids"], arguments["inputs_embeds"] = None, embeddings
    if lengths and transformers_config(model)._attn_implementation == ATTN_IMPLEMENTATION:
        arguments["attention_mask"] = unused_mask(batch.input_ids.device)
        arguments["seq_lens"] = lengths
        arguments["kernels"] = fused_kernels
    return arguments


def local_targets(batch: Batch) -> tuple[Tensor, Tensor, int]:
    """Return the targets that this rank's slice of the batch predicts.

    Returns:
        ``(targets,)`` positions from the beginning of the slice, ``(targets,)`` ids, and the number of targets
        of the batch before the slice.
    """
    positions, group = batch.target_positions, batch.sequence
    begin, before = 0, 0
    if group is not None:
        length = padded_length(batch.labels.shape[1], group) // group.size
        begin = group.rank * length
        before = int((positions < begin).sum())
        positions = positions[before : before + int((positions[before:] < begin + length).sum())]
    return positions - begin, batch.labels.flatten()[positions + 1], before


def local_target_counts(batch: Batch) -> list[int]:
    """Return how many of this rank's targets belong to each sample."""
    counts = batch.targets_per_sample
    if batch.sequence is None:
        return counts
    _, targets, before = local_targets(batch)
    ends = torch.tensor([0, *counts]).cumsum(0).clamp(before, before + len(targets))
    local: list[int] = ends.diff().tolist()
    return local
