"""Reload what was written, and compare it with the live model."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xft.errors import CheckpointError
from xft.models import open_artifact
from xft.templates import BoundTemplate
from xft.types import Message, Tokenizer

PROBE = "Say in one sentence what you are."


def verify_artifact(
    folder: Path,
    live: nn.Module,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    device: torch.device,
    tolerance: float = 1e-3,
) -> float:
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

    Returns:
        The largest difference of a logit.

    Raises:
        CheckpointError: they differ.
    """
    saved = open_artifact(str(folder), device=device)
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


def compare(expected: Tensor, got: Tensor, tolerance: float, what: str) -> float:
    """The largest difference of a logit.

    Raises:
        CheckpointError: it is more than ``tolerance`` times the largest logit, or not a number.
    """
    difference = float((expected - got).abs().max())
    largest = float(expected.abs().max())
    if not difference <= tolerance * largest:
        raise CheckpointError(
            f"{what} gives other logits than the live one: they differ by {difference:.3g}, and the largest "
            f"is {largest:.3g}; do not use it"
        )
    return difference


def logits_of(model: Any, batch: Tensor) -> Tensor:
    """Logits in fp32, in evaluation mode, without a gradient."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model(input_ids=batch, use_cache=False).logits.float().cpu()
    finally:
        model.train(training)
