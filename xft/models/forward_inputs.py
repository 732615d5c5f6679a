"""What is laid before a model of a batch: all of it, or the share of this rank."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from xft.distributed import padded_length, split_sequence
from xft.kernels.shapes import MULTIPLE
from xft.models.attention import PACKED, placeholder_mask
from xft.models.neftune import noisy_embeddings
from xft.types import IGNORE_INDEX, Batch

_MARK = "_xft_uses_kernels"


def use_kernels(model: nn.Module, wanted: bool) -> None:
    """Say of a model, before an adapter is put on it, whether it is computed with ``xft.kernels``.

    A copy of the model is computed as the model is.
    """
    setattr(model, _MARK, wanted)


def uses_kernels(model: Any) -> bool:
    """Whether a model, with or without an adapter, is computed with ``xft.kernels``."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return bool(getattr(base, _MARK, True))


def model_inputs(model: nn.Module, batch: Batch, whole: bool = False) -> dict[str, Any]:
    """The arguments of the forward call of a model, with or without an adapter.

    Args:
        model: of transformers.
        batch: flat or padded.
        whole: whether some tokens may stand behind a flat batch, in a segment of their own, where that suits
            kernels.
    """
    group, lengths = batch.sequence, batch.seq_lens
    arguments: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "attention_mask": batch.attention_mask,
        "use_cache": False,
    }
    if group is not None:
        behind = padded_length(sum(lengths), group) - sum(lengths)
        lengths = [*lengths, behind] if behind else lengths
        arguments |= {
            "input_ids": split_sequence(batch.input_ids, group),
            "position_ids": split_sequence(batch.position_ids, group),
            "sequence": group,
        }
    elif whole and lengths and uses_kernels(model):
        behind = -sum(lengths) % MULTIPLE
        lengths = [*lengths, behind] if behind else lengths
        for name in ("input_ids", "position_ids"):
            arguments[name] = pad(arguments[name], (0, behind))
    embeddings = noisy_embeddings(model, batch, arguments["input_ids"])
    if embeddings is not None:
        arguments["input_ids"], arguments["inputs_embeds"] = None, embeddings
    config: Any = model.config
    if lengths and config._attn_implementation == PACKED:
        arguments["attention_mask"] = placeholder_mask(batch.input_ids.device)
        arguments["seq_lens"] = lengths
        arguments["kernels"] = uses_kernels(model)
    return arguments


def predictions(batch: Batch) -> tuple[Tensor, Tensor]:
    """``(batch, seq)``, whether the next token is trained; and ``(targets,)``, those tokens. Both are
    of this rank's share, where ranks share the tokens out."""
    following = torch.full_like(batch.labels, IGNORE_INDEX)
    following[:, :-1] = batch.labels[:, 1:]
    if batch.sequence is not None:
        following = split_sequence(following, batch.sequence, IGNORE_INDEX)
    keep = following != IGNORE_INDEX
    return keep, following[keep]


def own_targets(batch: Batch) -> tuple[Tensor, Tensor, int]:
    """Places and ids of the trained tokens that are predicted from this rank's share of the batch, and how many of
    the batch come before them. The places are counted from the beginning of the share."""
    places, group = batch.target_positions, batch.sequence
    begin, before = 0, 0
    if group is not None:
        share = padded_length(batch.labels.shape[1], group) // group.size
        begin = group.rank * share
        before = int((places < begin).sum())
        places = places[before : before + int((places[before:] < begin + share).sum())]
    return places - begin, batch.labels.flatten()[places + 1], before


def own_counts(batch: Batch, number: int) -> list[int]:
    """How many of this rank's ``number`` targets each sample has."""
    counts = batch.targets_per_sample
    if batch.sequence is None:
        return counts
    _, _, before = own_targets(batch)
    own: list[int] = torch.tensor([0, *counts]).cumsum(0).clamp(before, before + number).diff().tolist()
    return own
