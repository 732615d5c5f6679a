"""KTO: answers that are wanted or not, without pairs."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from xft.data import collate_padded, collate_padding_free
from xft.errors import ConfigError
from xft.losses import kto
from xft.models.reference import DisabledAdapterReference, Reference, ReferenceContext, build_reference
from xft.models.scoring import SequenceLogProbs, eval_mode, sequence_log_probs
from xft.objectives.paired import check_numbers
from xft.objectives.reference_based import Referenced
from xft.registry import register
from xft.types import IGNORE_INDEX, Batch, LossOutput, Sample


@register("objective", "kto")
@dataclass(frozen=True)
class KTO:
    r"""Learn from single answers that are wanted or not, against a reference.

    Kahneman-Tversky optimisation (Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306).

    With :math:`\rho` the log-ratio of an answer to the reference, a wanted answer costs
    :math:`1 - \sigma(\beta(\rho - z))`, another :math:`1 - \sigma(\beta(z - \rho))`. The base
    :math:`z` is the divergence of the model from the reference, estimated as in the paper: each
    prompt of the batch is answered with the answer of its neighbour, and :math:`z` is the mean
    log-ratio of these mismatched answers, at least zero, without a gradient. That takes two more
    forward passes, and two answers at least: in a batch with one there is nothing to mismatch, and
    :math:`z` is 0 (see the metric ``kl/estimated``). Each batch on each rank has a :math:`z` of its
    own, so how a window is cut into batches matters a little.

    Metrics, means over the answers of their kind: ``rewards/chosen``, ``logps/chosen``,
    ``length/chosen`` of wanted answers, ``…/rejected`` of the others; ``rewards/accuracies``: how
    often an answer is on its side of :math:`\beta z`; ``nll_loss`` of a token of the wanted answers; ``kl``,
    which is :math:`z`; ``kl/estimated``: the share of the answers that had one.

    Args:
        beta: how dear it is to leave the reference, and how soon more of the same counts no more.
        desirable_weight: of wanted answers. With few of them, raise it until this weight times their
            number is 1 to 4/3 times the same of the others.
        undesirable_weight: of the others.
        kl: ``mismatched`` as above, or ``zero``: :math:`z` is 0, for half the time a step.
        reference: as in DPO.
        precompute_ref_log_probs: as in DPO; requires ``kl='zero'``, because mismatched answers are new in each
            batch.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    kl: Literal["mismatched", "zero"] = "mismatched"
    reference: str = "auto"
    precompute_ref_log_probs: bool = False

    learns_from: ClassVar[str] = "labelled answers"

    def __post_init__(self) -> None:
        check_numbers(
            "kto",
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )
        if self.kl not in ("mismatched", "zero"):
            raise ConfigError(f"objective.kl: got {self.kl!r}, expected 'mismatched' or 'zero'")
        if self.precompute_ref_log_probs and self.kl == "mismatched":
            raise ConfigError(
                key="objective.precompute_ref_log_probs",
                got=True,
                expected="False with kl='mismatched', whose answers are new in each batch",
                fix="set kl='zero', or precompute_ref_log_probs=False",
            )

    def prepare(self, setup: ReferenceContext) -> Referenced:
        """Load the reference, or ask it ahead."""
        return Referenced(self, build_reference(self.reference, self.precompute_ref_log_probs, setup))

    def count(self, batch: Batch) -> int:
        """How many answers a batch has."""
        return sum(1 for each in batch.targets_per_sample if each)

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """The loss of a batch against the model with its adapter off; others want ``prepare``."""
        return self.against(DisabledAdapterReference(), model, batch)

    def against(self, reference: Reference, model: nn.Module, batch: Batch) -> LossOutput:
        """The loss of a batch, summed over its answers."""
        if batch.desirable is None:
            raise ValueError(
                "got a batch without labels, expected samples of data.type='unpaired_preference'"
            )
        base = self._base(reference, model, batch)
        known = reference(model, batch)
        scores = sequence_log_probs(model, batch)
        ratios = scores.log_probs - known
        weights = torch.where(batch.desirable, self.desirable_weight, self.undesirable_weight)
        # A sample in which nothing is trained only keeps a rank in step with the others.
        present = torch.tensor([each > 0 for each in scores.counts], device=ratios.device)
        losses = kto(ratios, batch.desirable, 0.0 if base is None else base, self.beta) * weights
        output = LossOutput(torch.where(present, losses, 0.0 * ratios).sum(), int(present.sum()))
        rewards = self.beta * ratios.detach()
        _report(output, scores, rewards, batch.desirable, present)
        _report_base(output, rewards, batch.desirable, present, base, self.beta)
        return output

    def _base(self, reference: Reference, model: nn.Module, batch: Batch) -> Tensor | None:
        """The divergence from the reference; ``None`` where there is nothing to estimate it by."""
        mixed = mismatch(batch) if self.kl == "mismatched" else None
        if mixed is None:
            return None
        with eval_mode(model):
            ratios = sequence_log_probs(model, mixed).log_probs - reference(model, mixed)
        return ratios.mean().clamp(min=0)


def mismatch(batch: Batch) -> Batch | None:
    """Answer each prompt of a batch with the answer of the sample before it.

    What stands before the first trained token is the prompt, the rest the answer.

    Returns:
        As many samples in the same layout, or ``None`` where the batch has fewer than two answers.
    """
    both = zip(batch.split(batch.input_ids), batch.split(batch.labels), strict=True)
    parts = []
    for ids, labels in both:
        trained = (labels != IGNORE_INDEX).nonzero()
        if len(trained):
            begin = int(trained[0])
            parts.append((ids[:begin], ids[begin:], labels))
    if len(parts) < 2:
        return None
    samples = []
    for (prompt, _, labels), (_, answer, theirs) in zip(parts, [parts[-1], *parts[:-1]], strict=True):
        ids = torch.cat([prompt, answer])
        marks = torch.cat([labels[: len(prompt)], theirs[len(theirs) - len(answer) :]])
        samples.append(Sample(ids.cpu().numpy(), marks.cpu().numpy()))
    mixed = collate_padding_free(samples) if batch.attention_mask is None else collate_padded(samples, 0)
    return replace(mixed, sequence=batch.sequence).to(batch.input_ids.device)


def _report(
    output: LossOutput, scores: SequenceLogProbs, rewards: Tensor, desirable: Tensor, present: Tensor
) -> None:
    """What is worth knowing of wanted and of other answers, each over their own number."""
    log_probs, lengths = scores.log_probs.detach(), scores.lengths
    for side, chosen in (("chosen", desirable & present), ("rejected", ~desirable & present)):
        for name, values in (("rewards", rewards), ("logps", log_probs), ("length", lengths)):
            output.metrics[f"{name}/{side}"] = values[chosen].sum()
            output.metric_denominators[f"{name}/{side}"] = int(chosen.sum())
    wanted = desirable & present
    output.metrics["nll_loss"] = -log_probs[wanted].sum()
    output.metric_denominators["nll_loss"] = float(lengths[wanted].sum())


def _report_base(
    output: LossOutput,
    rewards: Tensor,
    desirable: Tensor,
    present: Tensor,
    base: Tensor | None,
    beta: float,
) -> None:
    """How answers stand to the base, and whether there was one."""
    height = torch.zeros((), device=rewards.device) if base is None else base
    right = torch.where(desirable, rewards > beta * height, rewards < beta * height)
    number = output.num_targets
    output.metrics["rewards/accuracies"] = (right & present).sum()
    output.metrics["kl"] = height * number
    output.metrics["kl/estimated"] = torch.tensor(0 if base is None else number)
    output.metric_denominators["kl"] = 0 if base is None else number
