"""Compare a merged model with the adapter on its base, on the sample questions of the run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xft.errors import CheckpointError, TemplateError
from xft.export.verify.comparison import Comparison, compare
from xft.export.verify.worker import PROBE_ANSWERS, probe_texts
from xft.templates import BoundTemplate
from xft.types import Message, Tokenizer

MAX_PROMPTS = 16
"""Upper limit of probes, since each token has logits of the size of the vocabulary."""


@dataclass(frozen=True)
class Tolerance:
    """Largest distance of a merged model from the adapter on its base.

    Attributes:
        kl: largest mean Kullback-Leibler divergence per position, in nats.
        agreement: smallest fraction of positions where both models rank the same token first.
    """

    kl: float
    agreement: float


TOLERANCES = {
    torch.float32: Tolerance(1e-6, 0.99),
    torch.float16: Tolerance(5e-4, 0.90),
    torch.bfloat16: Tolerance(2e-2, 0.85),
}
"""By the coarser of the training dtype and the written dtype. Folding ``ΔW`` into ``W`` rounds the sum to
24 bits in fp32, 11 in fp16 and 8 in bf16. Measured on SmolLM2-135M with adapters of three sizes, the KL is
1e-11, 4e-5 and 3e-3 nats, independent of the size. The limits are at least ten times as large; a lost or
doubled update is detected if it exceeds the rounding. Near-ties may swap without harm (up to 6 % of the
positions in bf16), so the agreement leaves a margin."""

INT8_TOLERANCE = Tolerance(1e-1, 0.80)
"""LLM.int8() rounds activations too, which a merged model does not: 2e-2 nats, measured as above. NF4 rounds
weights only, and the merge adds to the same rounded weights, so the limits of the dtype apply (measured:
3e-3 nats in bf16)."""

NOTICEABLE_FRACTION = 0.25
"""Fraction of the adapter's own effect above which the rounding error of a merge causes a warning."""


def merge_tolerance(*dtypes: torch.dtype, bits: int | None = None) -> Tolerance:
    """Return the tolerance for a merge between dtypes on a base quantized to ``bits``."""
    if bits == 8:
        return INT8_TOLERANCE
    return max((TOLERANCES[dtype] for dtype in dtypes), key=lambda tolerance: tolerance.kl)


def read_probes(
    source: Path, tokenizer: Tokenizer, template: BoundTemplate | None, scored: bool = False
) -> tuple[list[list[list[int]]], str]:
    """Build the inputs of the comparison: the run's sample questions with their last answers.

    They are read from ``generations.jsonl`` of the run folder, which is data; the run's config would be
    code. Without that file the probe prompt of xft is used, with several answers for a reward model.

    Args:
        source: a run folder, or a folder inside it.
        tokenizer: of the model.
        template: chat template of the model; ``None`` for raw text.
        scored: whether the model is a reward model.

    Returns:
        The inputs of each ``compute_logits`` call, and a description of them.

    Raises:
        CheckpointError: the sample questions cannot be read.
    """

    def tokenize(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    if scored:
        rows = [tokenize(text) for text in probe_texts(template, scored)]
        return [rows], f"{len(PROBE_ANSWERS)} built-in answers"
    texts = _answered_prompts(source, template) if template is not None else []
    description = f"{len(texts)} sample questions"
    if not texts:
        texts = probe_texts(template, scored)
        description = "a built-in prompt (the run has no sample questions)"
    return [[tokenize(text)] for text in texts], description


def _answered_prompts(source: Path, template: BoundTemplate) -> list[str]:
    folders = [source, *source.resolve().parents][:4]
    files = (folder / "generations.jsonl" for folder in folders)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        last = [row for row in rows if row["step"] == rows[-1]["step"]][:MAX_PROMPTS]
        return [_render(row, template) for row in last]
    except (ValueError, KeyError, TypeError, TemplateError) as error:
        raise CheckpointError(
            f"{file}: cannot read the sample questions ({type(error).__name__}: {error})", key=str(file)
        ) from error


def _render(row: dict[str, Any], template: BoundTemplate) -> str:
    system = [Message("system", row["system"])] if row.get("system") else []
    prompt = template.render([*system, Message("user", row["question"])], generation=True)
    return prompt + str(row["answer"])


def compare_merged(
    expected: Sequence[Tensor],
    actual: Sequence[Tensor],
    tolerance: Tolerance,
    name: str,
    scored: bool = False,
) -> Comparison:
    """Compare the logits of all probes.

    Args:
        expected: logits of the adapter on its base, from ``compute_logits``.
        actual: logits of the merged model.
        tolerance: limits to enforce.
        name: of the merged model, for messages.
        scored: whether the models are reward models.

    Raises:
        CheckpointError: the merged model is outside the tolerance.
    """
    comparison = _compare_all(expected, actual, f"{name}: the merged model", scored)
    # Answers of nearly equal quality swap without harm, and few answers make few pairs.
    agreement = 0.0 if scored else tolerance.agreement
    if comparison.kl > tolerance.kl or comparison.agreement < agreement:
        limit = f"KL of at most {tolerance.kl:g} nats"
        raise CheckpointError(
            f"{name}: the merged model differs from the adapter on its base: {comparison}; expected {limit}"
            f"{'' if scored else f' and an agreement of at least {agreement:.0%}'}. Try --dtype float32, or keep "
            "the adapter by leaving out --merge",
            key=f"{name}: merged model",
            got=comparison.kl,
            expected=limit,
        )
    return comparison


def mean_kl(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> float:
    """Return the mean Kullback-Leibler divergence per position over all probes, in nats."""
    return _compare_all(expected, actual, "the model").kl


def _compare_all(
    expected: Sequence[Tensor], actual: Sequence[Tensor], name: str, scored: bool = False
) -> Comparison:
    comparisons = [compare(p, q, name) for p, q in zip(expected, actual, strict=True)]
    lengths = [p.shape[1] for p in expected]

    def mean(values: Sequence[float]) -> float:
        return sum(v * n for v, n in zip(values, lengths, strict=True)) / sum(lengths)

    return Comparison(
        max_difference=max(probe.max_difference for probe in comparisons),
        max_logit=max(probe.max_logit for probe in comparisons),
        agreement=mean([probe.agreement for probe in comparisons]),
        kl=mean([probe.kl for probe in comparisons]),
        scored=scored,
    )


def merge_lines(comparison: Comparison, effect: float, tolerance: Tolerance, description: str) -> list[str]:
    """Format the distance of a merged model from the adapter, and the adapter's own effect."""
    limit = "" if comparison.scored else f" (limit {tolerance.agreement:.0%})"
    lines = [
        f"merged vs. adapter over {description}: KL {comparison.kl:.2g} nats (limit {tolerance.kl:g}),",
        f"  {comparison.describe_agreement(1)}{limit}; adapter vs. base: KL {effect:.2g} nats",
    ]
    if comparison.kl > NOTICEABLE_FRACTION * effect:
        lines.append(
            "warning: the rounding error of the merged weights is large compared to the adapter's effect; "
            "--dtype float32 reduces it, and an unmerged adapter avoids it"
        )
    return lines
