"""GRPO: reinforcement learning from the rewards of sampled completions, compared within the group of a prompt."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from xft.losses import LossType, RewardScale, group_advantages, kl_estimate, policy_loss
from xft.models.reference import (
    DisabledAdapterReference,
    ReferenceContext,
    TokenReference,
    build_token_reference,
)
from xft.models.scoring import target_log_probs
from xft.objectives.base import Objective
from xft.objectives.online import OnlineObjective, policy_targets
from xft.registry import register
from xft.types import Batch, LossOutput
from xft.types.ranges import NonNegative, Positive

MIN_SPREAD = 1e-9
"""Difference of rewards below which they are equal: sums of the same rewards differ by rounding."""


@register("objective", "grpo")
@dataclass(frozen=True, kw_only=True)
class GRPO(OnlineObjective):
    r"""Group relative policy optimization (Shao et al. 2024, https://arxiv.org/abs/2402.03300) and its variants.

    Each completion is compared with the other completions of its prompt, and tokens of better ones become more likely.
    The loss is 0 in the first forward pass by construction: watch the reward. The formulas are in
    :func:`xft.losses.policy_loss` and :func:`xft.losses.group_advantages`.

    Args:
        loss_type: ``grpo``, ``dr_grpo``, ``dapo``, ``cispo`` or ``gspo``.
        epsilon: lower clipping range of the probability ratio.
        epsilon_high: upper clipping range; ``None`` is ``epsilon``, and 5 for ``cispo``, whose largest weight it is.
        beta: weight of the KL divergence from the reference; 0 loads no reference.
        reference: as for ``dpo``: ``auto``, ``disable_adapter``, ``frozen_copy`` or a model.
        scale_rewards: divide advantages by the standard deviation of the ``group``, of the ``batch``, or of ``none``.
        leave_one_out: compare with the mean of the other completions.
        filter_zero_std_groups: leave out groups whose rewards are all equal: they have no advantage, but their tokens
            would count in the normalization.
        importance_sampling_correction: weight tokens by the ratio of the probabilities of trainer and sampler.
        importance_sampling_cap: largest such weight.
    """

    loss_type: LossType = "dapo"
    epsilon: Positive = 0.2
    epsilon_high: Positive | None = None
    beta: NonNegative = 0.0
    reference: str = "auto"
    scale_rewards: RewardScale = "group"
    leave_one_out: bool = False
    filter_zero_std_groups: bool = True
    importance_sampling_correction: bool = True
    importance_sampling_cap: Positive = 3.0

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, with the adapter-free model as reference if ``beta`` is not 0."""
        return self.loss(model, batch, DisabledAdapterReference())

    def bind_reference(self, context: ReferenceContext) -> Objective:
        """Load the reference model if ``beta`` is not 0."""
        if not self.beta:
            return self
        return GRPOWithReference(self, build_token_reference(self.reference, context))

    def advantages(self, rewards: Tensor, group_size: int) -> Tensor:
        """Compare each completion with its group."""
        result = group_advantages(rewards, group_size, self.scale_rewards, self.leave_one_out)
        if self.filter_zero_std_groups:
            groups = rewards.view(-1, group_size)
            spread = groups.nan_to_num(-torch.inf).amax(dim=1) - groups.nan_to_num(torch.inf).amin(dim=1)
            result = result.masked_fill(~(spread > MIN_SPREAD).repeat_interleave(group_size), torch.nan)
        return result.masked_fill(rewards.isnan(), torch.nan)

    def count_targets(self, batch: Batch) -> int:
        """Count tokens or completions, by which the loss type normalizes."""
        if self.loss_type in ("dapo", "cispo"):
            return batch.num_targets
        return len(policy_targets(batch).advantages)

    def loss(self, model: nn.Module, batch: Batch, reference: TokenReference) -> LossOutput:
        """Compute the loss of a batch, summed over its targets."""
        policy = policy_targets(batch)
        log_probs = target_log_probs(model, batch, policy.temperature)
        current = log_probs.detach()
        old = current if policy.old_log_probs is None else policy.old_log_probs
        kl: Tensor | None = None
        if self.beta:
            kl = kl_estimate(log_probs, reference.target_log_probs(model, batch, policy.temperature))
        # A batch of a rank without completions has a sample, and no advantage.
        counts = batch.targets_per_sample[: len(policy.advantages)]
        gap = old - policy.sampling_log_probs
        weights = gap.exp().clamp(max=self.importance_sampling_cap)
        result = policy_loss(
            log_probs,
            old,
            policy.advantages,
            counts,
            self.loss_type,
            self.epsilon,
            self._epsilon_high,
            policy.max_new_tokens,
            weights if self.importance_sampling_correction else None,
            None if kl is None else self.beta * kl,
        )
        metrics = {"clip_ratio": result.num_clipped, "sampling_gap": gap.abs().sum()}
        if kl is not None:
            metrics["kl"] = kl.detach().sum()
        loss_sum = result.loss_sum if counts else log_probs.sum()
        return LossOutput(
            loss_sum, self.count_targets(batch), metrics, dict.fromkeys(metrics, batch.num_targets), current
        )

    @property
    def _epsilon_high(self) -> float:
        if self.epsilon_high is not None:
            return self.epsilon_high
        return 5.0 if self.loss_type == "cispo" else self.epsilon


@dataclass(frozen=True)
class GRPOWithReference(Objective):
    """GRPO together with its loaded reference model.

    Attributes:
        objective: objective of the config.
        reference: gives the log-probabilities of the reference model.
    """

    objective: GRPO
    reference: TokenReference

    data_kind: ClassVar[str] = "prompts"

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch."""
        return self.objective.loss(model, batch, self.reference)

    def count_targets(self, batch: Batch) -> int:
        """Count the targets of a batch."""
        return self.objective.count_targets(batch)
