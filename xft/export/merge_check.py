"""How near a merged model is to the adapter on its base: measured on what the run was asked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xft.errors import CheckpointError, TemplateError
from xft.export.verify import Comparison, compare
from xft.export.verify_worker import ANSWERS, probe_texts
from xft.templates import BoundTemplate
from xft.types import Message, Tokenizer

MOST_QUESTIONS = 16
"""Logits are large: a token's are as many as the vocabulary."""


@dataclass(frozen=True)
class Limits:
    """How far a merged model may be from the adapter on its base.

    Attributes:
        divergence: the mean Kullback-Leibler divergence of a position, in nats, at most.
        agreement: share of the positions at which both rank the same token first, at least.
    """

    divergence: float
    agreement: float


LIMITS = {
    torch.float32: Limits(1e-6, 0.99),
    torch.float16: Limits(5e-4, 0.90),
    torch.bfloat16: Limits(2e-2, 0.85),
}
"""By the coarser of the type of training and the type that is written. Folding ``ΔW`` into ``W``
rounds the sum to 24 bits in fp32, to 11 in fp16, to 8 in bf16. Measured on SmolLM2-135M with
adapters of three sizes, the KL is 1e-11, 4e-5 and 3e-3 nats, whatever the size; the limits are
ten times that and more, and an update that is lost or doubled is caught where it is larger than
the rounding. Tokens that are nearly as likely as the first may swap with it without harm (up to
6 % of the positions in bf16), for which the agreement leaves room."""

INT8 = Limits(1e-1, 0.80)
"""LLM.int8() rounds the activations too, which a merged model does not: measured as above, 2e-2
nats. NF4 rounds weights only, and the same rounded weights are merged into, so it has the limits
of the type (measured: 3e-3 nats in bf16)."""

NOTICEABLE = 0.25
"""The share of what an adapter does that may be rounded away before a line says so."""


def limits(*types: torch.dtype, bits: int | None = None) -> Limits:
    """The limits for a merge between these types, on a base of so many bits."""
    if bits == 8:
        return INT8
    return max((LIMITS[each] for each in types), key=lambda each: each.divergence)


def read_probes(
    source: Path, tokenizer: Tokenizer, template: BoundTemplate | None, scored: bool = False
) -> tuple[list[list[list[int]]], str]:
    """What both models are run on: the sample questions of the run with the last answers to them.

    They are read from ``samples.jsonl`` of the run folder, which is data; its config would be code.
    Where there is none, it is one question of ours, and for a reward model it is that with several
    answers.

    Args:
        source: a run folder, or a folder in it.
        tokenizer: of the model.
        template: of the model; ``None`` for raw text.
        scored: whether it is a reward model.

    Returns:
        The rows of each probe, as ``logits_of`` wants them, and what they are, in words.
    """

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    if scored:
        rows = [ids(each) for each in probe_texts(template, scored)]
        return [rows], f"{len(ANSWERS)} answers of xft's own"
    texts = _answered(source, template) if template is not None else []
    said = f"{len(texts)} sample questions"
    if not texts:
        texts = probe_texts(template, scored)
        said = "a question of xft's own (the run has no sample questions)"
    return [[ids(each)] for each in texts], said


def _answered(source: Path, template: BoundTemplate) -> list[str]:
    folders = [source, *source.resolve().parents][:4]
    file = next((each / "samples.jsonl" for each in folders if (each / "samples.jsonl").is_file()), None)
    if file is None:
        return []
    try:
        rows = [json.loads(each) for each in file.read_text(encoding="utf-8").split("\n") if each.strip()]
        last = [each for each in rows if each["step"] == rows[-1]["step"]][:MOST_QUESTIONS]
        return [_conversation(each, template) for each in last]
    except (ValueError, KeyError, TypeError, TemplateError) as error:
        raise CheckpointError(
            f"{file}: cannot read the sample questions ({type(error).__name__}: {error})"
        ) from error


def _conversation(row: Any, template: BoundTemplate) -> str:
    system = [Message("system", row["system"])] if row.get("system") else []
    prompt = template.render([*system, Message("user", row["question"])], generation=True)
    return prompt + str(row["answer"])


def compare_merged(
    expected: Sequence[Tensor],
    got: Sequence[Tensor],
    limits: Limits,
    name: str,
    scored: bool = False,
) -> Comparison:
    """Compare the logits of all probes.

    Args:
        expected: of the adapter on its base, as ``logits_of`` gives them.
        got: of the merged model.
        limits: that must hold.
        name: of the merged model, for messages.
        scored: whether it is a reward model.

    Raises:
        CheckpointError: the merged model is beyond the limits.
    """
    found = _over_all(expected, got, f"{name}: the merged model", scored)
    # Answers that are nearly as good swap without harm, and a few answers make few pairs.
    least = 0.0 if scored else limits.agreement
    if found.divergence > limits.divergence or found.agreement < least:
        also = "" if scored else f", and not less than {least:.0%}"
        raise CheckpointError(
            f"{name}: the merged model is not what the adapter on its base is: {found}; allowed are "
            f"{limits.divergence:g} nats{also}. Try --dtype float32, or leave --merge out and keep the adapter"
        )
    return found


def divergence(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """The mean Kullback-Leibler divergence of a position, in nats, over all probes."""
    return _over_all(expected, got, "the model").divergence


def _over_all(
    expected: Sequence[Tensor], got: Sequence[Tensor], what: str, scored: bool = False
) -> Comparison:
    each = [compare(p, q, what) for p, q in zip(expected, got, strict=True)]
    lengths = [p.shape[1] for p in expected]

    def mean(values: Sequence[float]) -> float:
        return sum(v * n for v, n in zip(values, lengths, strict=True)) / sum(lengths)

    return Comparison(
        difference=max(one.difference for one in each),
        largest=max(one.largest for one in each),
        agreement=mean([one.agreement for one in each]),
        divergence=mean([one.divergence for one in each]),
        scored=scored,
    )
