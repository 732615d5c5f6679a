"""Keyword arguments of a model's forward call for a batch, or for this rank's slice of it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from xft.distributed import padded_length, split_sequence
from xft.kernels.shapes import MULTIPLE
from xft.models.attention import ATTN_IMPLEMENTATION, SegmentLengths, unused_mask
from xft.models.model_options import decoder_config, model_options, transformers_config, without_adapter
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
        **batch.token_inputs,
        **_cast_pixels(model, batch),
    }
    if group is not None:
        padding = padded_length(sum(lengths), group) - sum(lengths)
        lengths = [*lengths, padding] if padding else lengths
        arguments |= {
            "input_ids": split_sequence(_pad_ids(model, batch.input_ids, padding), group),
            "position_ids": split_sequence(batch.position_ids, group),
            "sequence": group,
        }
    elif full_sequence and lengths and fused_kernels:
        padding = -sum(lengths) % MULTIPLE
        lengths = [*lengths, padding] if padding else lengths
        arguments["input_ids"] = _pad_ids(model, batch.input_ids, padding)
        for name in {"position_ids", *batch.token_inputs}:
            arguments[name] = pad(arguments[name], (0, padding))
    embeddings = add_embedding_noise(model, batch, arguments["input_ids"])
    if embeddings is not None:
        arguments["input_ids"], arguments["inputs_embeds"] = None, embeddings
    if lengths and text_attention(model) == ATTN_IMPLEMENTATION:
        arguments["attention_mask"] = unused_mask(batch.input_ids.device)
        arguments["seq_lens"] = SegmentLengths(lengths)
        arguments["kernels"] = fused_kernels
    return arguments


def text_attention(model: nn.Module) -> str:
    """Return the attention implementation of a model; of a multimodal one, that of its language model."""
    config = transformers_config(model)
    return str(decoder_config(config)._attn_implementation)


def _cast_pixels(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the further inputs of a batch, floats in the dtype of the model."""
    if not batch.model_inputs:
        return {}
    dtype: torch.dtype = without_adapter(model).dtype  # type: ignore[assignment]
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in batch.model_inputs.items()
    }


def _pad_ids(model: nn.Module, input_ids: Tensor, count: int) -> Tensor:
    """Repeat the last text token.

    The embedding of id 0 may be zero, where a norm may have no gradient; a placeholder needs features of an image.
    """
    processor = model_options(model).processor
    text = input_ids[0]
    if processor is not None:
        text = text[~torch.isin(text, torch.tensor(sorted(processor.token_ids), device=text.device))]
    return torch.cat([input_ids, text[-1:].expand(1, count)], dim=1)


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
