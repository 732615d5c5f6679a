"""NEFTune: noise on the embeddings of a model in training (Jain et al. 2023, https://arxiv.org/abs/2310.05914)."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from xft.distributed import split_sequence
from xft.errors import ConfigError
from xft.types import Batch

_MARK = "_xft_noise"


def use_noise(model: nn.Module, alpha: float | None) -> None:
    """Say of a model, before an adapter is put on it, how strong the noise on its embeddings is.

    Args:
        model: of transformers.
        alpha: of the paper; ``None`` is no noise.

    Raises:
        ConfigError: the model wants to see ids, and not embeddings alone.
    """
    setattr(model, _MARK, alpha)
    if alpha is None:
        return
    below: Any = model
    decoder = below.get_decoder() if hasattr(below, "get_decoder") else None
    takes = inspect.signature((decoder if decoder is not None else model).forward).parameters
    config = below.config.get_text_config()
    # Gemma 3n looks ids up a second time in each layer, and would leave that out without a word.
    if "inputs_embeds" not in takes or getattr(config, "hidden_size_per_layer_input", None):
        raise ConfigError(
            f"model.neftune_alpha: {type(model).__name__} cannot be given embeddings in place of ids, so nothing can be "
            "added to them; set neftune_alpha=None"
        )


def noisy_embeddings(model: nn.Module, batch: Batch, input_ids: Tensor) -> Tensor | None:
    """The embeddings of a batch with noise, where the model is in training and has any.

    Each number gets one that is drawn evenly from ``±alpha / sqrt(L · d)``, with ``d`` the width of the model and
    ``L`` the length of the sample that the token belongs to: in a packed row each sample has its own, and padding
    counts nowhere and gets no noise. It is drawn from torch's generator of the device, whose state is in every
    checkpoint.

    Args:
        model: of transformers, with or without an adapter.
        batch: flat or padded.
        input_ids: of the batch, with or without more tokens behind; of this rank's share, where ranks share the
            tokens out.

    Returns:
        ``(batch, seq, width)`` in the type of the embeddings; ``None`` where there is no noise.
    """
    below: Any = model
    base: Any = below.get_base_model() if hasattr(below, "get_base_model") else below
    alpha: float | None = getattr(base, _MARK, None)
    if alpha is None or not model.training:
        return None
    embeddings: Tensor = base.get_input_embeddings()(input_ids)
    lengths = _lengths(batch)
    if batch.sequence is not None:
        lengths = split_sequence(lengths, batch.sequence, float("inf"))
    lengths = pad(lengths, (0, embeddings.shape[1] - lengths.shape[1]), value=float("inf"))
    scale = alpha / (lengths * embeddings.shape[-1]).sqrt()
    noise = torch.rand(embeddings.shape, dtype=torch.float32, device=embeddings.device) * 2 - 1
    return embeddings + (noise * scale.unsqueeze(-1)).to(embeddings.dtype)


def _lengths(batch: Batch) -> Tensor:
    """``(batch, seq)`` in fp32: the length of the sample that each token belongs to; infinite for padding."""
    ids = batch.input_ids
    if batch.seq_lens:
        # Made on the host, so that the device is not waited for.
        lengths = torch.tensor(batch.seq_lens)
        each = lengths.repeat_interleave(lengths).float().view(ids.shape)
        return each.to(ids.device, non_blocking=True)
    if batch.attention_mask is None:
        return torch.full(ids.shape, float(ids.shape[1]), device=ids.device)
    each = batch.attention_mask.sum(dim=1, keepdim=True).float().expand(ids.shape)
    return each.masked_fill(batch.attention_mask == 0, float("inf"))
