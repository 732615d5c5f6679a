"""Reload what was written, and compare it with the live model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xft.errors import CheckpointError
from xft.models import open_artifact
from xft.templates import BoundTemplate
from xft.types import Message, Tokenizer

PROBE = "What is the capital of France, and what do you know about it? Say it in one sentence, please."


@dataclass(frozen=True)
class Comparison:
    """How near the logits of two models are on a probe.

    Attributes:
        difference: the largest difference of a logit.
        largest: the largest logit.
        agreement: share of the positions at which both rank the same token first.
        divergence: mean Kullback-Leibler divergence of a position, in nats.
    """

    difference: float
    largest: float
    agreement: float
    divergence: float

    def __str__(self) -> str:
        if self.difference == 0:
            return "the logits are the same"
        return (
            f"logits differ by {self.difference:.2g} at most (the largest is {self.largest:.3g}), KL "
            f"{self.divergence:.2g} nats, the likeliest token is the same at {self.agreement:.0%} of the positions"
        )


def verify_artifact(
    folder: Path,
    live: nn.Module,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    device: torch.device,
    tolerance: float = 1e-3,
    trust_remote_code: bool = False,
) -> Comparison:
    """Compare a saved model with the one in memory: tokens, template and logits.

    Args:
        folder: what was written.
        live: the model that was written.
        tokenizer: the live one.
        template: the live one; ``None`` for raw text.
        device: where the live model is.
        tolerance: the largest difference of logits that is allowed, as a share of the largest
            logit. The same weights in the same type give the same logits; a reload may choose
            another kernel.
        trust_remote_code: as the live model was loaded.

    Raises:
        CheckpointError: they differ.
    """
    saved = open_artifact(str(folder), device=device, trust_remote_code=trust_remote_code)
    text = PROBE
    if template is not None:
        turns = [Message("user", PROBE)]
        text = template.render(turns, generation=True)
        again = BoundTemplate(saved.tokenizer, str(saved.tokenizer.chat_template))
        if again.render(turns, generation=True) != text:
            raise CheckpointError(
                f"{folder}: the saved chat template renders another text than the live one"
            )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if saved.tokenizer(text, add_special_tokens=False)["input_ids"] != ids:
        raise CheckpointError(f"{folder}: the saved tokenizer gives other tokens than the live one")
    batch = torch.tensor([ids], device=device)
    expected, got = logits_of(live, batch), logits_of(saved.model, batch)
    return compare(expected, got, tolerance, f"{folder}: the saved model")


def compare(expected: Tensor, got: Tensor, tolerance: float, what: str) -> Comparison:
    """Compare logits of shape ``(batch, seq, vocabulary)``.

    Raises:
        CheckpointError: they differ by more than ``tolerance`` times the largest, or are no numbers.
    """
    p, q = expected.log_softmax(-1), got.log_softmax(-1)
    found = Comparison(
        difference=float((expected - got).abs().max()),
        largest=float(expected.abs().max()),
        agreement=float((expected.argmax(-1) == got.argmax(-1)).float().mean()),
        divergence=float((p.exp() * (p - q)).sum(-1).mean()),
    )
    if not found.difference <= tolerance * found.largest:
        raise CheckpointError(f"{what} gives other logits than the live one ({found}); do not use it")
    return found


def logits_of(model: Any, batch: Tensor) -> Tensor:
    """Logits in fp32, in evaluation mode, without a gradient."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model(input_ids=batch, use_cache=False).logits.float().cpu()
    finally:
        model.train(training)
