"""Measure which attention implementations are correct for a model, and which isolate packed samples.

In transformers, an attention implementation silently ignores arguments that it does not support (attention
sinks, chunks, sparse indexers). A fixed list of model families would miss new families. The class of the
model is therefore measured: a tiny model (:mod:`xft.models.tiny_model`) with each implementation is compared in fp32
with eager attention on each sample alone.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from xft.errors import ModelError
from xft.models.attention import ATTN_IMPLEMENTATION, unused_mask
from xft.models.tiny_model import VOCAB_SIZE, build_tiny_model, tiny_config

TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest logit, that fp32 rounding can cause.

The weights of a tiny model are large, so rounding errors grow from layer to layer. Measured: 1e-7 to 7e-5 for
dense families, more than 1e-2 if samples leak into each other.
"""
LENGTHS = (9, 11)
"""Tokens of the two samples, longer than the windows and chunks of a tiny model."""
EAGER = "eager"


@dataclass(frozen=True)
class AttentionCheck:
    """Result of a measurement of one attention implementation.

    Attributes:
        single_error: largest relative difference of the logits of single samples from eager attention.
        packed_error: the same for two packed samples; ``inf`` if the model fails on them.
        causal: whether no logit depends on a later token.
        problem: reason why the measurement failed; empty if it succeeded.
    """

    single_error: float = float("inf")
    packed_error: float = float("inf")
    causal: bool = True
    problem: str = ""

    @property
    def exact(self) -> bool:
        """Whether the implementation computes the same logits as eager attention."""
        return self.single_error <= TOLERANCE

    @property
    def isolates(self) -> bool:
        """Whether packed samples have the same logits as each sample alone."""
        return self.exact and self.packed_error <= TOLERANCE

    @property
    def packing_problem(self) -> str:
        """Reason why samples must not be packed; empty if they can be packed."""
        if self.problem:
            return f"isolation of packed samples is not measured ({self.problem})"
        return "" if self.isolates else "layers of the model mix packed samples, as measured"


def check_attention(config: PretrainedConfig, attention: str) -> AttentionCheck:
    """Measure an attention implementation on a tiny model with the same config class.

    The result is cached per process. The global random state does not change.

    Args:
        config: config of the model. For a multimodal model, its text decoder is measured.
        attention: a name of transformers, or :data:`~xft.models.attention.ATTN_IMPLEMENTATION`.

    Returns:
        The measurement. ``problem`` is set if the class is not part of transformers, or no tiny model can be
        built.
    """
    text, model_class = _decoder_config(config), _model_class(config)
    if model_class is None:
        return AttentionCheck(problem=f"{type(text).__name__} has no causal language model in transformers")
    return _check(_CacheKey(model_class, text), attention)


def choose_attention(config: PretrainedConfig, requested: str = "auto") -> str:
    """Return the attention implementation with which to load a model.

    ``auto`` selects the first implementation that isolates packed samples, otherwise the first that is
    exact, in the order ``xft_packed``, SDPA, eager. A model that cannot be measured gets the default of
    transformers.

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
    exact = (name for name in names if check_attention(config, name).exact)
    return next(isolating, None) or next(exact, None) or _default(config)


def _decoder_config(config: PretrainedConfig) -> PretrainedConfig:
    """Return the config of the text decoder; the config itself if it has several."""
    try:
        return config.get_text_config()
    except ValueError:
        return config


def _model_class(config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """Return the causal language model of a config; ``None`` if transformers has none."""
    return cast(
        type[PreTrainedModel] | None, MODEL_FOR_CAUSAL_LM_MAPPING.get(type(_decoder_config(config)), None)
    )


def _default(config: PretrainedConfig) -> str:
    """Return SDPA unless the class of the model rejects it."""
    model_class = _model_class(config)
    return "sdpa" if model_class is None or model_class._supports_sdpa else EAGER


class _CacheKey:
    """Hashable pair of a model class and a config; equal if all fields are equal."""

    def __init__(self, model_class: type[PreTrainedModel], config: PretrainedConfig) -> None:
        self.model_class, self.config = model_class, config
        fields = {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}
        self._value = (model_class.__name__, json.dumps(fields, sort_keys=True, default=str))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _CacheKey) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


@cache
def _check(key: _CacheKey, attention: str) -> AttentionCheck:
    with _quiet(), torch.inference_mode():
        try:
            small = tiny_config(key.config)
            reference = build_tiny_model(key.model_class, small, EAGER)
            samples = _samples(reference)
            expected = torch.cat([_logits(reference, input_ids=sample) for sample in samples], dim=1)
            causal = _is_causal(reference, samples[0])
        except Exception as error:  # noqa: BLE001  Any class of transformers may fail in any way on small sizes.
            return AttentionCheck(problem=_reason(error))
        if not expected.isfinite().all():
            return AttentionCheck(problem="the tiny model's logits are not finite")
        try:
            model = reference if attention == EAGER else build_tiny_model(key.model_class, small, attention)
            alone = torch.cat([_logits(model, input_ids=sample) for sample in samples], dim=1)
        except Exception as error:  # noqa: BLE001
            return AttentionCheck(causal=causal, problem=_reason(error))
        return AttentionCheck(_distance(alone, expected), _packed(model, samples, expected), causal)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _samples(model: PreTrainedModel) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = _vocab_size(model)
    # Special tokens have the lowest ids or, in a tiny model, the highest one.
    low, high = (4, size - 1) if size > 16 else (0, size)
    return [torch.randint(low, high, (1, length), generator=generator) for length in LENGTHS]


def _vocab_size(model: PreTrainedModel) -> int:
    embeddings = cast(nn.Embedding, model.get_input_embeddings())
    return min(VOCAB_SIZE, embeddings.num_embeddings)


def _logits(model: PreTrainedModel, **arguments: Any) -> Tensor:
    output: Tensor = model(**arguments, use_cache=False).logits
    return output


def _packed(model: PreTrainedModel, samples: list[Tensor], expected: Tensor) -> float:
    positions = torch.cat([torch.arange(length)[None] for length in LENGTHS], dim=1)
    arguments: dict[str, Any] = {"input_ids": torch.cat(samples, dim=1), "position_ids": positions}
    if model.config._attn_implementation == ATTN_IMPLEMENTATION:
        arguments |= {"attention_mask": unused_mask(positions.device), "seq_lens": list(LENGTHS)}
    try:
        return _distance(_logits(model, **arguments), expected)
    except Exception:  # noqa: BLE001  A model that fails on a packed batch cannot be packed.
        return float("inf")


def _is_causal(model: PreTrainedModel, sample: Tensor) -> bool:
    changed = sample.clone()
    changed[0, -1] = (changed[0, -1] + 1) % _vocab_size(model)
    before, after = (_logits(model, input_ids=ids)[:, :-1] for ids in (sample, changed))
    return _distance(after, before) <= TOLERANCE


def _distance(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).abs().max() / expected.abs().max())


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings of transformers about the tiny model, which would confuse users."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
