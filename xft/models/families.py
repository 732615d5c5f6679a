"""One table of the model families that need special treatment.

A family is a ``model_type`` of transformers. Families without an entry use the defaults of :class:`ModelFamily`.
What can be measured (:mod:`xft.models.checks.attention_checks`) or read from the config has no entry.
"""

from dataclasses import dataclass, replace
from typing import Any

from transformers import PretrainedConfig


@dataclass(frozen=True)
class ModelFamily:
    """Exceptions of one model family.

    Attributes:
        accepts_embeddings: whether ``inputs_embeds`` can replace ``input_ids`` without loss.
        gguf_architecture: architecture name in GGUF files; ``None`` means that no GGUF file can be written.
        gguf_sliding_window: whether the GGUF reader of the architecture applies ``sliding_window``.
    """

    accepts_embeddings: bool = True
    gguf_architecture: str | None = None
    gguf_sliding_window: bool = False


FAMILIES = {
    "llama": ModelFamily(gguf_architecture="llama"),
    "mistral": ModelFamily(gguf_architecture="llama", gguf_sliding_window=True),
    "internlm3": ModelFamily(gguf_architecture="llama"),
    "internlm2": ModelFamily(gguf_architecture="llama"),
    "baichuan": ModelFamily(gguf_architecture="llama"),
    "qwen2": ModelFamily(gguf_architecture="qwen2"),
    "qwen3": ModelFamily(gguf_architecture="qwen3"),
}
GGUF_FAMILIES = [name for name, family in FAMILIES.items() if family.gguf_architecture is not None]

OTHER_PARTS = {
    "fuyu": ("model.vision_embed_tokens",),
    "git": ("git.image_encoder", "git.visual_projection", "git.img_temporal_embedding"),
    "phi4_multimodal": ("model.embed_tokens_extend",),
}
"""Modules of multimodal families that see images or audio, where transformers does not name them."""


def optional_field(config: PretrainedConfig, name: str) -> Any:
    """Return a field of a transformers config, or ``None`` if the architecture has no such field."""
    return getattr(config, name, None)


def context_length(config: PretrainedConfig) -> int | None:
    """Return the maximum number of tokens of a text model, or ``None`` if its architecture sets no maximum."""
    length: int | None = optional_field(config.get_text_config(), "max_position_embeddings")
    return length


def family_of(config: PretrainedConfig) -> ModelFamily:
    """Return the entry of a model's family, with exceptions that its config declares.

    Args:
        config: of a whole model or of its text decoder.
    """
    text = config.get_text_config()
    family = FAMILIES.get(text.model_type, ModelFamily())
    # Gemma 3n looks the ids up in every layer, and silently omits that if it gets embeddings.
    if optional_field(text, "hidden_size_per_layer_input"):
        family = replace(family, accepts_embeddings=False)
    return family
