"""Load a second, frozen model that is compared with the trained one: a reference or a teacher."""

from typing import Any

import torch
from torch import nn

from xft.errors import ConfigError
from xft.models.loading import LoadedModel
from xft.models.model_options import transformers_config
from xft.models.saved_model import load_saved_model


def load_frozen_model(
    path: str,
    key: str,
    policy: LoadedModel,
    device: torch.device,
    bits: int | None = None,
    trust_remote_code: bool = False,
) -> nn.Module:
    """Load a saved model without gradients, in the dtype of the trained model.

    Args:
        path: run folder, checkpoint, adapter or model.
        key: key of the config that names it.
        policy: the trained model.
        device: of the weights.
        bits: quantize the base to 4 or 8 bits; the bits of its training by default.
        trust_remote_code: run Python code from the model folder.

    Raises:
        ConfigError: its tokens are not those of the trained model, or it does not isolate packed samples.
        ModelError: it cannot be loaded.
    """
    loaded = load_saved_model(
        path,
        bits=bits,
        dtype=str(policy.base.dtype).removeprefix("torch."),
        device=device,
        trust_remote_code=trust_remote_code,
        kind="causal_lm",
    )
    tokenizers: list[Any] = [policy.tokenizer, loaded.tokenizer]
    size = transformers_config(loaded.model).get_text_config().vocab_size
    if tokenizers[0].get_vocab() != tokenizers[1].get_vocab() or size < len(policy.tokenizer):
        raise ConfigError(
            key=key,
            got=path,
            expected=f"a model with the same tokenizer, added tokens included: {len(policy.tokenizer):,} tokens in the "
            f"trained model, {len(loaded.tokenizer):,} in this one, which has {size:,} logits",
        )
    if policy.supports_packing and not loaded.supports_packing:
        raise ConfigError(
            key=key,
            got=path,
            expected="a model of the same architecture, which isolates packed samples as the trained model does",
        )
    return loaded.model.requires_grad_(False).eval()
