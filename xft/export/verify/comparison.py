"""Compare the logits of two models."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from xft.errors import CheckpointError


@dataclass(frozen=True)
class Comparison:
    """Distance between the logits of two models, or between the scores of two reward models.

    Attributes:
        max_difference: largest absolute difference of a logit or score.
        max_logit: largest absolute logit or score of the first model.
        agreement: fraction of positions where both models rank the same token first; for reward
            models, fraction of answer pairs that both order alike.
        kl: mean Kullback-Leibler divergence per position or per pair, in nats.
        adapter_norms: ``‖ΔW‖`` of the reloaded adapter by layer; empty without an adapter.
        scored: whether the models are reward models.
    """

    max_difference: float
    max_logit: float
    agreement: float
    kl: float
    adapter_norms: dict[str, float] = field(default_factory=dict)
    scored: bool = False

    @property
    def noun(self) -> str:
        """``logits`` or ``scores``."""
        return "scores" if self.scored else "logits"

    def explain(self) -> str:
        """Return what the comparison of an exported model with the trained one means, as a sentence for newcomers."""
        start = "the exported model was loaded and compared with the trained one: it"
        if self.max_difference == 0:
            return f"{start} gives exactly the same outputs"
        result = (
            f"prefers the same answer in {self.agreement:.0%} of pairs"
            if self.scored
            else f"predicts the same next token at {self.agreement:.0%} of positions"
        )
        return (
            f"{start} {result} (largest difference of the {self.noun}: {self.max_difference:.2g}, with values up to "
            f"{self.max_logit:.3g}; KL divergence {self.kl:.2g} nats)"
        )

    def describe_agreement(self, digits: int = 0) -> str:
        """Return the agreement as a phrase, in percent with ``digits`` decimals."""
        percent = f"{self.agreement:.{digits}%}"
        if self.scored:
            return f"same preference in {percent} of pairs"
        return f"same top-1 token at {percent} of positions"

    def __str__(self) -> str:
        if self.max_difference == 0:
            return f"{self.noun} are identical"
        return (
            f"{self.noun} differ by at most {self.max_difference:.2g} (largest {self.max_logit:.3g}), KL "
            f"{self.kl:.2g} nats, {self.describe_agreement()}"
        )


def compare(
    expected: Tensor,
    actual: Tensor,
    name: str = "the model",
    adapter_norms: dict[str, float] | None = None,
    scored: bool = False,
) -> Comparison:
    """Compare logits of shape ``(batch, seq, vocab)``, or preferences of reward models ``(1, pairs, 2)``.

    Raises:
        CheckpointError: the shapes differ, or a value is not finite.
    """
    if expected.shape != actual.shape:
        raise CheckpointError(
            key=f"{name}: shape of the logits", got=tuple(actual.shape), expected=str(tuple(expected.shape))
        )
    # Double precision: the sum over a large vocabulary would round a small divergence to 0.
    p, q = expected.double().log_softmax(-1), actual.double().log_softmax(-1)
    comparison = Comparison(
        max_difference=float((expected - actual).abs().max()),
        max_logit=float(expected.abs().max()),
        agreement=float((expected.argmax(-1) == actual.argmax(-1)).float().mean()),
        kl=max(0.0, float((p.exp() * (p - q)).sum(-1).mean())),
        adapter_norms=adapter_norms or {},
        scored=scored,
    )
    if not torch.isfinite(torch.tensor([comparison.max_difference, comparison.kl])).all():
        raise CheckpointError(
            key=f"{name}: logits",
            got="NaN or infinite values",
            expected="finite values",
            fix="do not use it",
        )
    return comparison
