"""Model families and dtypes that can be written as GGUF."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xft.errors import ConfigError
from xft.export.gguf.vocab import read_vocabulary
from xft.models.families import GGUF_FAMILIES, family_of, optional_field
from xft.models.model_options import model_options, transformers_config
from xft.models.reward_head import is_reward_model
from xft.types import Tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

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
    if model_options(model).processor is not None:
        raise ConfigError(
            key="--gguf",
            got="a vision-language model",
            expected="a language model: the file would lack the vision tower",
        )
    config = transformers_config(model)
    architecture = family_of(config).gguf_architecture
    if architecture is None:
        raise ConfigError(
            key="--gguf",
            got=f"model_type {config.model_type!r}",
            expected=f"one of {', '.join(GGUF_FAMILIES)}",
        )
    rope = str(rope_parameters(config).get("rope_type", "default"))
    if rope not in ("default", "dynamic"):
        raise ConfigError(
            key="--gguf", got=f"rope_type {rope!r}", expected="'default' or 'dynamic', which readers verify"
        )
    if architecture == "llama" and any(name.endswith(".bias") for name, _ in model.named_parameters()):
        raise ConfigError(key="--gguf", got="a Llama model with biases", expected="one without biases")
    if optional_field(config, "use_sliding_window"):
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


def rope_parameters(config: "PretrainedConfig") -> dict[str, Any]:
    """Return the parameters of the rotary embedding, empty if the config has none."""
    return optional_field(config, "rope_parameters") or {}
