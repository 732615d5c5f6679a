"""Change the rotary embedding of a model, for samples that are longer than those of its pretraining."""

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from xft.errors import ConfigError
from xft.models.families import context_length, optional_field

_KEY = "model.rope_parameters"
_FIELDS_OF_TYPES = {
    "rope_type", "type", "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
    "low_freq_factor", "high_freq_factor", "short_factor", "long_factor", "mscale", "mscale_all_dim", "truncate",
}  # fmt: skip
"""Fields that belong to a type of scaling; the others belong to the model."""
_EXTENDING = ("linear", "yarn")
"""Types whose ``factor`` multiplies the number of positions."""


def set_rope_parameters(config: PretrainedConfig, parameters: Mapping[str, Any]) -> None:
    """Change ``rope_parameters`` of a transformers config, and the number of positions that follows from them.

    Values that are not given, such as ``rope_theta``, remain those of the model. ``original_max_position_embeddings``
    is the number of positions of the model by default, as in transformers.

    Args:
        config: of the model; modified in place.
        parameters: as in ``rope_parameters`` of transformers: ``rope_type`` and ``factor``, and others of the type.

    Raises:
        ConfigError: the model has no rotary embedding or several, or the parameters are not those of the type.
    """
    text: Any = config.get_text_config()
    old, length = optional_field(text, "rope_parameters"), context_length(config)
    if not old or "rope_theta" not in old or length is None:
        raise ConfigError(
            key=_KEY,
            got=f"parameters for {config.model_type!r}",
            expected="a model with one rotary embedding",
        )
    kind = parameters.get("rope_type")
    if kind not in ROPE_INIT_FUNCTIONS:
        raise ConfigError(
            key=f"{_KEY}.rope_type", got=kind, expected=f"one of {', '.join(sorted(ROPE_INIT_FUNCTIONS))}"
        )
    kept = {name: value for name, value in old.items() if name not in _FIELDS_OF_TYPES}
    original = old.get("original_max_position_embeddings", length)
    text.rope_parameters = kept | dict(parameters)
    if kind not in ("linear", "dynamic"):
        text.rope_parameters.setdefault("original_max_position_embeddings", original)
    if kind in _EXTENDING and isinstance(factor := parameters.get("factor"), (int, float)):
        text.max_position_embeddings = int(factor * (original if kind == "yarn" else length))
    try:
        text.standardize_rope_params()
        text.validate_rope()
    except (KeyError, ValueError) as error:
        raise ConfigError(
            key=_KEY, got=dict(parameters), expected=f"parameters of {kind!r} ({error})"
        ) from error


def supported_length(config: PretrainedConfig) -> int | None:
    """Return the number of tokens that the positions of a model support; ``None`` if there is no limit."""
    length = context_length(config)
    rope = optional_field(config.get_text_config(), "rope_parameters") or {}
    if length is not None and rope.get("rope_type") == "dynamic":
        return int(length * rope.get("factor", 1))
    return length


def length_warning(config: PretrainedConfig, longest: int) -> list[str]:
    """Return a line if samples are longer than the positions of a model support.

    Args:
        config: of the model.
        longest: number of tokens of the longest sample.
    """
    length = supported_length(config)
    if length is None or longest <= length:
        return []
    return [
        f"warning: the longest sample has {longest:,} tokens, and the model supports {length:,} positions; lower "
        f"data.max_length, or set {_KEY}=dict(rope_type='yarn', factor={-(-longest // length)})"
    ]
