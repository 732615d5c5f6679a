"""Measure which attention implementations are correct for a model, and which isolate packed samples.

In transformers, an attention implementation silently ignores arguments that it does not support (attention
sinks, chunks, sparse indexers). A fixed list of model families would miss new families. The class of the
model is therefore measured: a tiny model (:mod:`xft.models.checks.tiny_model`) with each implementation is compared in
fp64 with eager attention on each sample alone.
"""

import json
from functools import cache
from typing import cast

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from xft.errors import ModelError
from xft.models.attention import ATTN_IMPLEMENTATION
from xft.models.checks.disk_cache import load_check, store_check
from xft.models.checks.measure import EAGER, AttentionCheck, measure
from xft.models.model_options import decoder_config, transformers_config


def check_attention(config: PretrainedConfig, attention: str) -> AttentionCheck:
    """Measure an attention implementation on a tiny model with the same config class.

    The result is cached by config, in the process and on the disk. The global random state does not change.

    Args:
        config: config of the model. For a multimodal model, its text decoder is measured.
        attention: a name of transformers, or :data:`~xft.models.attention.ATTN_IMPLEMENTATION`.

    Returns:
        The measurement. ``problem`` is set if the class is not part of transformers, or no tiny model can be
        built.
    """
    text, model_class = decoder_config(config), causal_class(config)
    if model_class is None:
        return AttentionCheck(problem=f"{type(text).__name__} has no causal language model in transformers")
    return _check(_CacheKey(model_class, text), attention)


def check_loaded(model: nn.Module) -> AttentionCheck:
    """Return the measurement of a loaded model, with or without an adapter, with the attention that it uses."""
    config = transformers_config(model)
    return check_attention(config, str(decoder_config(config)._attn_implementation))


def choose_attention(config: PretrainedConfig, requested: str = "auto") -> str:
    """Return the attention implementation with which to load a model.

    ``auto`` selects the first implementation that isolates packed samples, otherwise the first that keeps padding
    out of the logits, otherwise the first that is exact, in the order ``xft_packed``, SDPA, eager. A model that cannot
    be measured gets the default of transformers.

    Args:
        config: config of the model.
        requested: name of an implementation, or ``auto``.

    Raises:
        ModelError: the requested implementation computes other logits than eager attention, or the model is
            bidirectional.
    """
    if not check_attention(config, EAGER).causal:
        raise ModelError(
            key="model.path", got=config.model_type, expected="a causal language model; in this one, a token sees the "
            "tokens after it"
        )  # fmt: skip
    if requested in (ATTN_IMPLEMENTATION, "sdpa"):
        check = check_attention(config, requested)
        if check.single_error != float("inf") and not check.exact:
            raise ModelError(
                key="model.attn_implementation", got=requested, expected=f"attention that {config.model_type} is defined "
                f"with; measured: logits differ by {check.single_error:.0%}", fix="set model.attn_implementation='auto'",
            )  # fmt: skip
    if requested != "auto":
        return requested
    names = (ATTN_IMPLEMENTATION, "sdpa", EAGER)
    # Generators, so that measurements stop at the first suitable implementation.
    isolating = (name for name in names if check_attention(config, name).isolates)
    padded = (name for name in names if check_attention(config, name).pads)
    exact = (name for name in names if check_attention(config, name).exact)
    return next(isolating, None) or next(padded, None) or next(exact, None) or _default(config)


def causal_class(config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """Return the causal language model of a config; ``None`` if transformers has none."""
    return cast(
        type[PreTrainedModel] | None,
        MODEL_FOR_CAUSAL_LM_MAPPING.get(type(decoder_config(config)), None)
        or MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None),
    )


def _default(config: PretrainedConfig) -> str:
    """Return SDPA unless the class of the model rejects it."""
    model_class = causal_class(config)
    return "sdpa" if model_class is None or model_class._supports_sdpa else EAGER


class _CacheKey:
    """Hashable pair of a model class and a config; equal if all fields are equal."""

    def __init__(self, model_class: type[PreTrainedModel], config: PretrainedConfig) -> None:
        self.model_class, self.config = model_class, config
        fields = {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}
        self.text = json.dumps([model_class.__name__, fields], sort_keys=True, default=str)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _CacheKey) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@cache
def _check(key: _CacheKey, attention: str) -> AttentionCheck:
    # The source of other classes is not part of the key on the disk.
    on_disk = key.model_class.__module__.startswith("transformers.")
    check = load_check(key.text, attention) if on_disk else None
    if check is None:
        check = measure(key.model_class, key.config, attention)
        if on_disk:
            store_check(key.text, attention, check)
    return check
