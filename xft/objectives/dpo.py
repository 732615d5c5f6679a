"""DPO and other losses of preference pairs with a reference model."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from xft.errors import ConfigError, did_you_mean
from xft.losses import PAIR_LOSSES
from xft.models.reference import Reference
from xft.objectives.base import validate_hyperparameters
from xft.objectives.paired import (
    CompletionLogProbs,
    PairedObjective,
    PairLosses,
    pair_log_probs,
    to_loss_output,
)
from xft.objectives.reference_based import ReferenceBasedObjective
from xft.registry import register
from xft.types import Batch, LossOutput
from xft.types.ranges import LabelSmoothing, NonNegative, Positive

Loss = Literal["sigmoid", "robust", "hinge", "ipo", "kto_pair", "sppo_hard", "nca_pair"]
SMOOTHED = ("sigmoid", "robust")
"""Losses whose formula has label smoothing."""


@register("objective", "dpo")
@dataclass(frozen=True)
class DPO(PairedObjective, ReferenceBasedObjective):
    r"""Loss of the log-ratios between model and reference model; seven formulas.

    Direct preference optimization (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290) and its
    relatives.

    With :math:`c, r` the log-ratios :math:`\log\pi(y|x) - \log\pi_\mathrm{ref}(y|x)` of the chosen and
    the rejected answer, the loss of a pair is :math:`-\log\sigma(\beta(c - r))`, or another formula of
    :mod:`xft.losses.preference`. The reward of an answer is :math:`\beta` times its log-ratio. Metrics are
    those of :class:`~xft.objectives.paired.PairObjective`.

    Args:
        loss: name of the formula. With ``label_smoothing``, ``sigmoid`` is conservative DPO and ``robust`` is
            robust DPO.
        beta: strength of the KL penalty toward the reference model.
        label_smoothing: assumed fraction of pairs with swapped labels.
        length_normalized: divide log-ratios by the number of target tokens; ``None`` does so for ``ipo``
            alone, as its authors do.
        nll_weight: weight of the mean negative log-likelihood per token of the chosen completion
            (Pang et al. 2024, https://arxiv.org/abs/2404.19733).
    """

    loss: Loss = "sigmoid"
    beta: Positive = 0.1
    label_smoothing: LabelSmoothing = 0.0
    length_normalized: bool | None = None
    nll_weight: NonNegative = 0.0

    def __post_init__(self) -> None:
        if self.loss not in PAIR_LOSSES:
            raise ConfigError(
                key="objective.loss",
                got=self.loss,
                expected="the name of a pair loss",
                fix=did_you_mean(self.loss, PAIR_LOSSES),
            )
        validate_hyperparameters(
            beta=self.beta, label_smoothing=self.label_smoothing, nll_weight=self.nll_weight
        )
        if self.label_smoothing and self.loss not in SMOOTHED:
            raise ConfigError(
                key="objective.label_smoothing",
                got=self.label_smoothing,
                expected=f"0 with loss={self.loss!r}, whose formula has no such term",
                fix=f"use one of {', '.join(SMOOTHED)}, or set label_smoothing=0",
            )

    def loss_with_reference(self, reference: Reference, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its pairs."""
        # The reference goes first: its activations are freed before those of the model are stored.
        ref_log_probs = reference(model, batch)
        pairs = pair_log_probs(model, batch)
        ref_chosen, ref_rejected = (ref_log_probs[side] for side in pairs.index)
        chosen = self._log_ratios(pairs.chosen, ref_chosen)
        rejected = self._log_ratios(pairs.rejected, ref_rejected)
        losses = PAIR_LOSSES[self.loss](chosen, rejected, self.beta, self.label_smoothing)
        losses = losses - self.nll_weight * pairs.chosen.mean
        return to_loss_output(PairLosses(losses, self.beta * chosen, self.beta * rejected), pairs)

    def _log_ratios(self, completions: CompletionLogProbs, ref_log_probs: Tensor) -> Tensor:
        normalized = self.loss == "ipo" if self.length_normalized is None else self.length_normalized
        log_ratios = completions.log_probs - ref_log_probs
        return log_ratios / completions.lengths if normalized else log_ratios
