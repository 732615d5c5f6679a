"""NEFTune: noise on the embeddings in training (Jain et al. 2023, https://arxiv.org/abs/2310.05914)."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from xft.distributed import split_sequence
from xft.errors import ConfigError
from xft.models.families import family_of
from xft.models.model_options import model_options, without_adapter
from xft.types import Batch


def enable_neftune(model: PreTrainedModel, alpha: float | None) -> None:
    """Set the strength of the noise on the embeddings of a model.

    Args:
        model: of transformers, before an adapter is attached.
        alpha: of the paper; ``None`` adds no noise.

    Raises:
        ConfigError: the model needs token ids, not only embeddings.
    """
    model_options(model).neftune_alpha = alpha
    if alpha is None:
        return
    decoder = model.get_decoder() or model
    accepted = inspect.signature(decoder.forward).parameters
    if "inputs_embeds" not in accepted or not family_of(model.config).accepts_embeddings:
        raise ConfigError(
            f"model.neftune_alpha: {type(model).__name__} does not accept embeddings in place of ids, so no noise can "
            "be added; set neftune_alpha=None",
            key="model.neftune_alpha",
            got=alpha,
        )


def add_embedding_noise(model: nn.Module, batch: Batch, input_ids: Tensor) -> Tensor | None:
    """Compute the embeddings of a batch with NEFTune noise.

    The noise is uniform in ``±alpha / sqrt(L · d)``, with the hidden size ``d`` and the length ``L`` of the sample
    of each token. In a packed row each sample has its own length; padding is not counted and gets no noise.
    The noise comes from torch's generator of the device, whose state is part of every checkpoint.

    Args:
        model: of transformers, with or without an adapter.
        batch: flat or padded.
        input_ids: ids of the batch, possibly padded on the right; of this rank's slice under sequence parallelism.

    Returns:
        ``(batch, seq, hidden)`` in the dtype of the embeddings; ``None`` in evaluation or without NEFTune.
    """
    alpha = model_options(model).neftune_alpha
    if alpha is None or not model.training:
        return None
    base: Any = without_adapter(model)
    embeddings: Tensor = base.get_input_embeddings()(input_ids)
    lengths = _sample_lengths(batch)
    if batch.sequence is not None:
        lengths = split_sequence(lengths, batch.sequence, float("inf"))
    lengths = pad(lengths, (0, embeddings.shape[1] - lengths.shape[1]), value=float("inf"))
    scale = alpha / (lengths * embeddings.shape[-1]).sqrt()
    noise = torch.rand(embeddings.shape, dtype=torch.float32, device=embeddings.device) * 2 - 1
    return embeddings + (noise * scale.unsqueeze(-1)).to(embeddings.dtype)


def _sample_lengths(batch: Batch) -> Tensor:
    """Return ``(batch, seq)`` fp32 lengths of the sample of each token; infinite for padding."""
    ids = batch.input_ids
    if batch.seq_lens:
        # Computed on the host: no synchronization with the device.
        segments = torch.tensor(batch.seq_lens)
        lengths = segments.repeat_interleave(segments).float().view(ids.shape)
        return lengths.to(ids.device, non_blocking=True)
    if batch.attention_mask is None:
        return torch.full(ids.shape, float(ids.shape[1]), device=ids.device)
    lengths = batch.attention_mask.sum(dim=1, keepdim=True).float().expand(ids.shape)
    return lengths.masked_fill(batch.attention_mask == 0, float("inf"))
