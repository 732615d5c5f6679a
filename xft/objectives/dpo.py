"""DPO and its relatives: pairs, measured against a reference."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from xft.errors import ConfigError, did_you_mean
from xft.losses import PAIR_LOSSES
from xft.models.reference import DisabledAdapterReference, Reference, ReferenceContext, build_reference
from xft.objectives.paired import Answers, Compared, check_numbers, present_pairs, read_pairs, report
from xft.objectives.reference_based import Referenced
from xft.registry import register
from xft.types import Batch, LossOutput

Loss = Literal["sigmoid", "robust", "hinge", "ipo", "kto_pair", "sppo_hard", "nca_pair"]
SMOOTHED = ("sigmoid", "robust")
"""The losses whose formula knows label smoothing."""


@register("objective", "dpo")
@dataclass(frozen=True)
class DPO:
    r"""Prefer the chosen answer by more than the reference does; seven formulas.

    Direct preference optimisation (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290) and its
    relatives.

    With :math:`c, r` the log-ratios :math:`\log\pi(y|x) - \log\pi_\mathrm{ref}(y|x)` of the chosen and
    the rejected answer, the loss of a pair is :math:`-\log\sigma(\beta(c - r))`, or another formula of
    :mod:`xft.losses.preference`. The reward of an answer is :math:`\beta` times its log-ratio. Metrics are
    those of :class:`~xft.objectives.paired.PairObjective`.

    Args:
        loss: the formula; ``sigmoid`` with ``label_smoothing`` is conservative DPO, ``robust`` with it
            robust DPO.
        beta: how dear it is to leave the reference.
        label_smoothing: the share of the pairs that is taken to be the wrong way round.
        length_normalized: divide log-ratios by the length of the answer; ``None`` does so for ``ipo``
            alone, as its authors do.
        nll_weight: of the mean negative log-likelihood of the chosen answer's tokens, which is added
            (Pang et al. 2024, https://arxiv.org/abs/2404.19733).
        reference: ``disable_adapter``, ``frozen_copy`` (of the model at the start of the run), or a model: a
            folder, a run or a hub id. ``auto`` means ``disable_adapter`` if there is an adapter, else
            ``frozen_copy``.
        precompute_ref_log_probs: compute the log-probabilities of the reference once, before training begins.
            This saves one forward pass per step and the memory of a second model.
    """

    loss: Loss = "sigmoid"
    beta: float = 0.1
    label_smoothing: float = 0.0
    length_normalized: bool | None = None
    nll_weight: float = 0.0
    reference: str = "auto"
    precompute_ref_log_probs: bool = False

    learns_from: ClassVar[str] = "pairs"

    def __post_init__(self) -> None:
        if self.loss not in PAIR_LOSSES:
            raise ConfigError(
                f"objective.loss: no loss is called {self.loss!r}; {did_you_mean(self.loss, PAIR_LOSSES)}"
            )
        check_numbers(
            "dpo", beta=self.beta, label_smoothing=self.label_smoothing, nll_weight=self.nll_weight
        )
        if self.label_smoothing and self.loss not in SMOOTHED:
            raise ConfigError(
                f"objective.label_smoothing: got {self.label_smoothing} with loss={self.loss!r}, which has no "
                f"such term; use one of {', '.join(SMOOTHED)}, or set it to 0"
            )

    def prepare(self, setup: ReferenceContext) -> Referenced:
        """Load the reference, or ask it ahead."""
        return Referenced(self, build_reference(self.reference, self.precompute_ref_log_probs, setup))

    def count(self, batch: Batch) -> int:
        """How many pairs a batch has."""
        return len(present_pairs(batch.targets_per_sample))

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """The loss of a batch against the model with its adapter off; others want ``prepare``."""
        return self.against(DisabledAdapterReference(), model, batch)

    def against(self, reference: Reference, model: nn.Module, batch: Batch) -> LossOutput:
        """The loss of a batch, summed over its pairs."""
        # The reference first: its activations are gone before those that are kept are made.
        known = reference(model, batch)
        pairs = read_pairs(model, batch)
        before = [known[each] for each in pairs.index]
        chosen = self._ratio(pairs.chosen, before[0])
        rejected = self._ratio(pairs.rejected, before[1])
        losses = PAIR_LOSSES[self.loss](chosen, rejected, self.beta, self.label_smoothing)
        losses = losses - self.nll_weight * pairs.chosen.mean
        return report(Compared(losses, self.beta * chosen, self.beta * rejected), pairs)

    def _ratio(self, answers: Answers, before: Tensor) -> Tensor:
        normalised = self.loss == "ipo" if self.length_normalized is None else self.length_normalized
        ratio = answers.log_probs - before
        return ratio / answers.lengths if normalised else ratio
