"""One table of the model families that need special treatment.

A family is a ``model_type`` of transformers. Families without an entry use the defaults of :class:`ModelFamily`.
Properties that a config declares itself (soft-capped attention, sliding windows, stateful layers) are read from
the config, so that new families work without an entry.
"""

from dataclasses import dataclass, replace
from typing import Any

from transformers import PretrainedConfig


@dataclass(frozen=True)
class ModelFamily:
    """Exceptions of one model family.

    Attributes:
        attn_implementation: attention that ``attn_implementation="auto"`` selects; ``None`` decides by the class.
        accepts_embeddings: whether ``inputs_embeds`` can replace ``input_ids`` without loss.
    """

    attn_implementation: str | None = None
    accepts_embeddings: bool = True


FAMILIES = {
    # Attention sinks reach only the eager implementation.
    "gpt_oss": ModelFamily(attn_implementation="eager"),
}


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
    if optional_field(text, "attn_logit_softcapping"):
        family = replace(family, attn_implementation="eager")
    # Gemma 3n looks the ids up in every layer, and silently omits that if it gets embeddings.
    if optional_field(text, "hidden_size_per_layer_input"):
        family = replace(family, accepts_embeddings=False)
    return family
