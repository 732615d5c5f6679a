"""KTO: Kahneman-Tversky optimization on unpaired completions with a binary label."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from xft.data import collate_padded, collate_padding_free
from xft.errors import ConfigError
from xft.losses import kto
from xft.models.param_shapes import is_sharded
from xft.models.reference import Reference
from xft.models.scoring import SequenceLogProbs, eval_mode, sequence_log_probs
from xft.objectives.base import validate_hyperparameters
from xft.objectives.reference_based import ReferenceBasedObjective
from xft.registry import register
from xft.types import IGNORE_INDEX, Batch, LossOutput, Sample
from xft.types.ranges import NonNegative, Positive


@register("objective", "kto")
@dataclass(frozen=True)
class KTO(ReferenceBasedObjective):
    r"""Loss of desirable and undesirable completions against a reference model.

    Kahneman-Tversky optimization (Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306).

    With :math:`\rho` the log-ratio between model and reference model, the loss of a desirable completion is
    :math:`1 - \sigma(\beta(\rho - z))`, of an undesirable one :math:`1 - \sigma(\beta(z - \rho))`. The KL baseline
    :math:`z` is estimated as in the paper. Each prompt of the batch is combined with the completion of its
    neighbor, and :math:`z` is the mean log-ratio of these mismatched completions, at least zero, without a
    gradient. The estimate takes two more forward passes and at least two completions; for a batch with one,
    :math:`z` is 0 (metric ``kl/estimated``). Each micro-batch on each rank has its own :math:`z`, so results depend
    slightly on the micro-batch size.

    Metrics, means over the completions of their kind: ``rewards/chosen``, ``logps/chosen``, ``length/chosen`` of
    desirable completions, ``…/rejected`` of undesirable ones; ``rewards/accuracies``: fraction of completions on
    the right side of :math:`\beta z`; ``nll_loss`` per token of the desirable completions; ``kl``: :math:`z`;
    ``kl/estimated``: fraction of completions with an estimate.

    Args:
        beta: strength of the KL penalty toward the reference model; larger values saturate the loss sooner.
        desirable_weight: weight of desirable completions. The paper recommends to choose it such that this weight
            times their number is 1 to 4/3 times the same product of undesirable completions.
        undesirable_weight: weight of undesirable completions.
        kl: ``mismatched`` as above, or ``zero``: :math:`z` is 0, for half the time per step.
        precompute_ref_log_probs: compute the log-probabilities of the reference once, before training begins; requires
            ``kl='zero'``, because mismatched completions are new in each batch.
    """

    beta: Positive = 0.1
    desirable_weight: NonNegative = 1.0
    undesirable_weight: NonNegative = 1.0
    kl: Literal["mismatched", "zero"] = "mismatched"

    data_kind: ClassVar[str] = "labelled answers"

    def __post_init__(self) -> None:
        validate_hyperparameters(
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )
        if self.kl not in ("mismatched", "zero"):
            raise ConfigError(key="objective.kl", got=self.kl, expected="'mismatched' or 'zero'")
        if self.precompute_ref_log_probs and self.kl == "mismatched":
            raise ConfigError(
                key="objective.precompute_ref_log_probs",
                got=True,
                expected="False with kl='mismatched', whose completions are new in each batch",
                fix="set kl='zero', or precompute_ref_log_probs=False",
            )

    def count_targets(self, batch: Batch) -> int:
        """Count the completions of a batch."""
        return sum(1 for count in batch.targets_per_sample if count)

    def loss_with_reference(self, reference: Reference, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its completions.

        Raises:
            ValueError: the samples of the batch have no labels.
        """
        if batch.desirable is None:
            raise ValueError(
                "got a batch without labels, expected samples of data.type='unpaired_preference'"
            )
        kl_baseline = self._kl_baseline(reference, model, batch)
        ref_log_probs = reference(model, batch)
        scores = sequence_log_probs(model, batch)
        log_ratios = scores.log_probs - ref_log_probs
        weights = torch.where(batch.desirable, self.desirable_weight, self.undesirable_weight)
        # Samples without targets belong to dummy batches of ranks that ran out of data.
        present = torch.tensor([count > 0 for count in scores.counts], device=log_ratios.device)
        losses = (
            kto(log_ratios, batch.desirable, 0.0 if kl_baseline is None else kl_baseline, self.beta)
            * weights
        )
        output = LossOutput(torch.where(present, losses, 0.0 * log_ratios).sum(), int(present.sum()))
        rewards = self.beta * log_ratios.detach()
        _add_completion_metrics(output, scores, rewards, batch.desirable, present)
        _add_kl_metrics(output, rewards, batch.desirable, present, kl_baseline, self.beta)
        return output

    def _kl_baseline(self, reference: Reference, model: nn.Module, batch: Batch) -> Tensor | None:
        """Estimate the KL divergence from the reference; ``None`` without an estimate."""
        mismatched = mismatch(batch) if self.kl == "mismatched" else None
        if mismatched is None and not any(map(is_sharded, model.parameters())):
            return None
        # Each call gathers sharded parameters: ranks with one completion must call the model as often as the others.
        scored = batch if mismatched is None else mismatched
        with eval_mode(model):
            log_ratios = sequence_log_probs(model, scored).log_probs - reference(model, scored)
        return None if mismatched is None else log_ratios.mean().clamp(min=0)


def mismatch(batch: Batch) -> Batch | None:
    """Combine each prompt of a batch with the completion of the sample before it.

    The prompt ends before the first target token; the rest is the completion.

    Returns:
        The same number of samples in the same layout, or ``None`` for fewer than two completions.
    """
    pairs = zip(batch.split(batch.input_ids), batch.split(batch.labels), strict=True)
    parts = []
    for ids, labels in pairs:
        targets = (labels != IGNORE_INDEX).nonzero()
        if len(targets):
            start = int(targets[0])
            parts.append((ids[:start], ids[start:], labels))
    if len(parts) < 2:
        return None
    samples = []
    for (prompt, _, labels), (_, completion, donor_labels) in zip(
        parts, [parts[-1], *parts[:-1]], strict=True
    ):
        ids = torch.cat([prompt, completion])
        mixed_labels = torch.cat(
            [labels[: len(prompt)], donor_labels[len(donor_labels) - len(completion) :]]
        )
        samples.append(Sample(ids.cpu().numpy(), mixed_labels.cpu().numpy()))
    mixed = collate_padding_free(samples) if batch.attention_mask is None else collate_padded(samples, 0)
    return replace(mixed, sequence=batch.sequence).to(batch.input_ids.device)


def _add_completion_metrics(
    output: LossOutput, scores: SequenceLogProbs, rewards: Tensor, desirable: Tensor, present: Tensor
) -> None:
    """Add the metrics of desirable and of undesirable completions, each with its own denominator."""
    log_probs, lengths = scores.log_probs.detach(), scores.lengths
    sides = {"chosen": desirable & present, "rejected": ~desirable & present}
    for side, selected in sides.items():
        for name, values in (("rewards", rewards), ("logps", log_probs), ("length", lengths)):
            output.metrics[f"{name}/{side}"] = values[selected].sum()
            output.metric_denominators[f"{name}/{side}"] = int(selected.sum())
    output.metrics["nll_loss"] = -log_probs[sides["chosen"]].sum()
    output.metric_denominators["nll_loss"] = float(lengths[sides["chosen"]].sum())


def _add_kl_metrics(
    output: LossOutput,
    rewards: Tensor,
    desirable: Tensor,
    present: Tensor,
    kl_baseline: Tensor | None,
    beta: float,
) -> None:
    """Add the KL baseline, the fraction of completions with one, and the accuracy relative to it."""
    kl = torch.zeros((), device=rewards.device) if kl_baseline is None else kl_baseline
    is_right = torch.where(desirable, rewards > beta * kl, rewards < beta * kl)
    count = output.num_targets
    output.metrics["rewards/accuracies"] = (is_right & present).sum()
    output.metrics["kl"] = kl * count
    output.metrics["kl/estimated"] = torch.tensor(0 if kl_baseline is None else count)
    output.metric_denominators["kl"] = 0 if kl_baseline is None else count
