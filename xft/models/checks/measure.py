"""Compute the logits of two samples alone, padded and packed, with tiny models of one class."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from xft.models.attention import ATTN_IMPLEMENTATION, unused_mask
from xft.models.checks.leaks import leaking_modules
from xft.models.checks.tiny_config import VOCAB_SIZE, tiny_config
from xft.models.checks.tiny_model import build_tiny_model, double_precision
from xft.models.segments import SegmentedClass, segment_modules, separate_rotary_embeddings
from xft.models.token_decoding import TokenDecoder

TOLERANCE = 1e-8
"""Largest difference of logits, relative to the largest logit, that is rounding.

Measured in fp64 over all families of transformers: rounding stays below 1e-12, what leaks or is left out is above 1e-3.
"""
LENGTHS = (9, 11)
"""Tokens of the two samples, longer than the windows and chunks of a tiny model."""
EAGER = "eager"
_INF = float("inf")


@dataclass(frozen=True)
class AttentionCheck:
    """Result of a measurement of one attention implementation.

    An error is the largest difference of logits, relative to the largest logit, from eager attention over each sample
    alone; ``inf`` if the model fails.

    Attributes:
        single_error: error of each sample alone.
        packed_error: error of samples that share a row.
        padded_error: error of samples in rows that are padded on the right, as in training.
        left_padded_error: error of samples in rows that are padded on the left, as in generation.
        cached_error: error of samples that are computed token by token with a ``DynamicCache``, as in sampling.
        causal: whether no logit depends on a later token.
        segmented: classes of modules that must compute each sample of a packed row by itself.
        problem: reason why the measurement failed; empty if it succeeded.
    """

    single_error: float = _INF
    packed_error: float = _INF
    padded_error: float = _INF
    left_padded_error: float = _INF
    cached_error: float = _INF
    causal: bool = True
    segmented: tuple[SegmentedClass, ...] = ()
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
    def pads(self) -> bool:
        """Whether padding on the right changes no logit."""
        return self.exact and self.padded_error <= TOLERANCE

    @property
    def pads_left(self) -> bool:
        """Whether padding on the left changes no logit, or is not measured."""
        return bool(self.problem) or self.left_padded_error <= TOLERANCE

    @property
    def caches(self) -> bool:
        """Whether a ``DynamicCache`` changes no logit, or is not measured."""
        return bool(self.problem) or self.cached_error <= TOLERANCE

    @property
    def packing_problem(self) -> str:
        """Reason why samples must not be packed; empty if they can be packed."""
        if self.problem:
            return f"isolation of packed samples is not measured ({self.problem})"
        return "" if self.isolates else "layers of the model mix packed samples, as measured"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as values of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "AttentionCheck":
        """Return the check of :meth:`to_json`.

        Raises:
            TypeError: fields are missing or unknown.
        """
        segmented = tuple(SegmentedClass(**options) for options in fields["segmented"])
        return cls(**{**fields, "segmented": segmented})


def measure(model_class: type[PreTrainedModel], config: PretrainedConfig, attention: str) -> AttentionCheck:
    """Measure one attention implementation with tiny models of a class."""
    with _quiet(), double_precision(), torch.inference_mode():
        try:
            small = tiny_config(config)
            reference = build_tiny_model(model_class, small, EAGER)
            samples = _samples(reference)
            expected = torch.cat([_logits(reference, input_ids=sample) for sample in samples], dim=1)
            causal = _is_causal(reference, samples[0])
        except Exception as error:  # noqa: BLE001  Any class of transformers may fail in any way on small sizes.
            return AttentionCheck(problem=_reason(error))
        if not expected.isfinite().all():
            return AttentionCheck(problem="the tiny model's logits are not finite")
        try:
            model = reference if attention == EAGER else build_tiny_model(model_class, small, attention)
            separate_rotary_embeddings(model)
            alone = torch.cat([_logits(model, input_ids=sample) for sample in samples], dim=1)
        except Exception as error:  # noqa: BLE001
            return AttentionCheck(causal=causal, problem=_reason(error))
        return _with_packed(
            AttentionCheck(
                single_error=_distance(alone, expected),
                padded_error=_padded(model, samples, expected, left=False),
                left_padded_error=_padded(model, samples, expected, left=True),
                cached_error=_cached(model, samples[0]),
                causal=causal,
            ),
            model,
            samples,
            expected,
        )


def _with_packed(
    check: AttentionCheck, model: PreTrainedModel, samples: list[Tensor], expected: Tensor
) -> AttentionCheck:
    """Add the error of packed samples, with modules that leak computed sample by sample."""
    arguments = _packed_arguments(model, samples)
    check = replace(check, packed_error=_error(model, arguments, expected))
    if not check.exact or check.isolates or "seq_lens" not in arguments:
        return check
    # A module that fails on a flat batch hides those after it: look again when it is computed by samples.
    segmented: dict[str, SegmentedClass] = {}
    while leaking := [leak for leak in leaking_modules(model, arguments) if leak.name not in segmented]:
        segmented |= {leak.name: leak for leak in leaking}
        segment_modules(model, leaking)
    error = _error(model, arguments, expected)
    if error > TOLERANCE:
        return check
    return replace(check, packed_error=error, segmented=tuple(segmented.values()))


def _packed_arguments(model: PreTrainedModel, samples: list[Tensor]) -> dict[str, Any]:
    positions = torch.cat([torch.arange(length)[None] for length in LENGTHS], dim=1)
    arguments: dict[str, Any] = {"input_ids": torch.cat(samples, dim=1), "position_ids": positions}
    if model.config._attn_implementation == ATTN_IMPLEMENTATION:
        arguments |= {"attention_mask": unused_mask(positions.device), "seq_lens": list(LENGTHS)}
    return arguments


def _padded(model: PreTrainedModel, samples: list[Tensor], expected: Tensor, left: bool) -> float:
    longest = max(LENGTHS)
    ids = torch.full((len(samples), longest), _vocab_size(model) - 1)
    mask = torch.zeros_like(ids)
    for row, sample in enumerate(samples):
        length = sample.shape[1]
        place = slice(longest - length, None) if left else slice(length)
        ids[row, place], mask[row, place] = sample[0], 1
    # Those of xft.data.collate_padded, and of generation in transformers.
    positions = (mask.cumsum(1) - 1).clamp(min=0) if left else torch.arange(longest).expand_as(ids)
    arguments = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return _error(model, arguments, expected, mask.bool())


def _cached(model: PreTrainedModel, sample: Tensor) -> float:
    rows, begin = torch.cat([sample, sample.flip(1)]), sample.shape[1] // 2
    try:
        expected = _logits(model, input_ids=rows)[:, begin - 1 : -1]
        decoder = TokenDecoder(
            model, lambda **arguments: model(**arguments).logits[:, -1], rows[:, :begin].tolist(), repeats=2
        )
        logits = [decoder.prefill()[[3, 0]]]
        decoder.keep(torch.tensor([3, 0]))
        logits += [decoder.step(ids) for ids in rows.flip(0)[:, begin:-1].unbind(1)]
        return _distance(torch.stack(logits, dim=1), expected.flip(0))
    except Exception:  # noqa: BLE001  A model that fails with a cache is computed without one.
        return _INF


def _error(
    model: PreTrainedModel, arguments: dict[str, Any], expected: Tensor, mask: Tensor | None = None
) -> float:
    try:
        logits = _logits(model, **arguments)
        return _distance(logits if mask is None else logits[mask][None], expected)
    except Exception:  # noqa: BLE001  A model that fails on a layout is not trained with it.
        return _INF


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


def _logits(model: PreTrainedModel, **arguments: object) -> Tensor:
    output: Tensor = model(**arguments, use_cache=False).logits
    return output


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
