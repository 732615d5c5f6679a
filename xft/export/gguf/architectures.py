"""Model families and dtypes that can be written as GGUF."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xft.errors import ConfigError
from xft.export.gguf.vocab import read_vocabulary
from xft.models.reward_head import is_reward_model
from xft.types import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "internlm3": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
"""GGUF architecture by ``model_type`` of transformers."""
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "q8_0": torch.float32}
"""Dtype of the weights before they are encoded, by GGUF type."""
MODEL_FILE = "model.gguf"


def check_supported(model: "PreTrainedModel", tokenizer: Tokenizer, gguf_type: str) -> None:
    """Refuse models that GGUF readers would run differently.

    Args:
        model: a full model, or the base of an adapter.
        tokenizer: of the model.
        gguf_type: key of ``DTYPES``.

    Raises:
        ConfigError: the model cannot be written as GGUF.
    """
    if find_spec("gguf") is None:
        raise ConfigError(
            key="--gguf",
            got="no installed package 'gguf'",
            expected="the package to be installed",
            fix="pip install -r requirements/gguf.txt",
        )
    if gguf_type not in DTYPES:
        raise ConfigError(key="--gguf", got=gguf_type, expected=f"one of {', '.join(DTYPES)}")
    if is_reward_model(model):
        raise ConfigError(
            key="--gguf", got="a reward model", expected="a language model, since GGUF has no score head"
        )
    config = model.config
    if config.model_type not in ARCHITECTURES:
        raise ConfigError(
            key="--gguf",
            got=f"model_type {config.model_type!r}",
            expected=f"one of {', '.join(ARCHITECTURES)}",
        )
    rope = str(rope_parameters(config).get("rope_type", "default"))
    if rope not in ("default", "dynamic"):
        raise ConfigError(
            key="--gguf", got=f"rope_type {rope!r}", expected="'default' or 'dynamic', which readers verify"
        )
    biases = ("attention_bias", "mlp_bias", "bias", "qkv_bias")
    is_llama = ARCHITECTURES[config.model_type] == "llama"
    if is_llama and any(getattr(config, name, False) for name in biases):
        raise ConfigError(key="--gguf", got="a Llama model with biases", expected="one without biases")
    if getattr(config, "use_sliding_window", False):
        raise ConfigError(
            key="--gguf",
            got="use_sliding_window=True",
            expected="full attention, since GGUF readers of this family ignore the window",
        )
    read_vocabulary(tokenizer, embedding_rows(model))


def embedding_rows(model: "PreTrainedModel") -> int:
    """Return the number of rows of the input embeddings."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight.shape[0]


def rope_parameters(config: object) -> dict[str, Any]:
    """Return the parameters of the rotary embedding, empty if the config has none."""
    return dict(getattr(config, "rope_parameters", None) or {})
