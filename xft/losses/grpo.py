"""Losses of group relative policy optimization (GRPO) and its variants.

All functions are pure. *Tokens* are the generated tokens of all completions, concatenated; a *group* is the
completions of one prompt, next to each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xft.losses.log_probs import sum_by_sample

LossType = Literal["grpo", "dr_grpo", "dapo", "cispo", "gspo"]
RewardScale = Literal["group", "batch", "none"]
ADVANTAGE_EPS = 1e-4
"""Added to the standard deviation of rewards, as in TRL."""


def group_advantages(
    rewards: Tensor, group_size: int, scale: RewardScale = "group", leave_one_out: bool = False
) -> Tensor:
    r"""Compute how much better a completion is than the others of its group.

    :math:`A_i = (r_i - b_i) / (\sigma + 10^{-4})`. The baseline :math:`b_i` is the mean of the group (GRPO, Shao et al.
    2024, https://arxiv.org/abs/2402.03300, eq. 3), or the mean of the *other* completions (RLOO, Ahmadian et al. 2024,
    https://arxiv.org/abs/2402.14740).

    Args:
        rewards: ``(completions,)``, groups next to each other; NaN for a completion without a reward.
        group_size: number of completions per prompt.
        scale: :math:`\sigma` is the standard deviation of the ``group``, of the ``batch``, or with ``none`` there is no
            division (Dr. GRPO, Liu et al. 2025, https://arxiv.org/abs/2503.20783).
        leave_one_out: use the mean of the other completions as baseline.

    Returns:
        ``(completions,)``; 0 for a completion without a reward, and for a group with a single reward.
    """
    groups = rewards.view(-1, group_size)
    present = ~groups.isnan()
    values = groups.nan_to_num(0.0)
    counts = present.sum(dim=1, keepdim=True)
    means = values.sum(dim=1, keepdim=True) / counts.clamp(min=1)
    advantages = (values - means) * present
    if leave_one_out:
        # r - mean(others) = (r - mean) n / (n - 1)
        advantages = advantages * counts / (counts - 1).clamp(min=1)
    if scale == "group":
        squares = ((values - means) * present).square().sum(dim=1, keepdim=True)
        advantages = advantages / ((squares / (counts - 1).clamp(min=1)).sqrt() + ADVANTAGE_EPS)
    elif scale == "batch":
        finite = groups[present]
        deviation = finite.std() if len(finite) > 1 else finite.new_zeros(())
        advantages = advantages / (deviation + ADVANTAGE_EPS)
    return advantages.flatten()


@dataclass(frozen=True)
class PolicyLoss:
    """Loss of a batch, and what is logged about it.

    Attributes:
        loss_sum: scalar, summed over what the loss type normalizes by.
        num_clipped: number of tokens whose gradient is cut by the clipping, detached.
    """

    loss_sum: Tensor
    num_clipped: Tensor


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    counts: Sequence[int],
    loss_type: LossType,
    epsilon: float,
    epsilon_high: float,
    max_new_tokens: int,
    importance_weights: Tensor | None = None,
    kl_penalty: Tensor | None = None,
) -> PolicyLoss:
    r"""Compute the summed policy loss of some completions.

    With the ratio :math:`\rho_t = \pi(t) / \pi_{old}(t)` and the advantage :math:`A` of the completion, the loss of a
    token is :math:`-\min(\rho_t A, \mathrm{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon_{high}) A)`. Types:

    * ``grpo``: mean over the tokens of a completion; the sum is over completions (https://arxiv.org/abs/2402.03300).
    * ``dr_grpo``: sum over the tokens, divided by ``max_new_tokens``; over completions
      (https://arxiv.org/abs/2503.20783).
    * ``dapo``: sum over the tokens (Yu et al. 2025, https://arxiv.org/abs/2503.14476).
    * ``cispo``: :math:`-\min(\rho_t, \epsilon_{high}) A \log\pi(t)`, without a gradient of the weight; over tokens
      (MiniMax 2025, https://arxiv.org/abs/2506.13585).
    * ``gspo``: as ``grpo``, with one ratio per completion, the geometric mean of the ratios of its tokens (Zheng et al.
      2025, https://arxiv.org/abs/2507.18071).

    Args:
        log_probs: ``(tokens,)`` of the policy, with a gradient.
        old_log_probs: ``(tokens,)`` of the policy that generated, without a gradient.
        advantages: ``(completions,)``.
        counts: number of tokens of each completion; 0 for a completion that is masked.
        loss_type: as above.
        epsilon: lower clipping range.
        epsilon_high: upper clipping range; for ``cispo`` the largest weight.
        max_new_tokens: limit of a completion, for ``dr_grpo``.
        importance_weights: ``(tokens,)`` factors of the token losses, without a gradient.
        kl_penalty: ``(tokens,)`` added to the token losses.
    """
    lengths = torch.tensor(counts, dtype=log_probs.dtype, device=log_probs.device)
    repeats = lengths.long()
    token_advantages = advantages.to(log_probs.dtype).repeat_interleave(repeats)
    log_ratio = log_probs - old_log_probs
    if loss_type == "gspo":
        means = sum_by_sample(log_ratio, counts) / lengths.clamp(min=1)
        log_ratio = means.repeat_interleave(repeats)
    ratio = log_ratio.exp()
    if loss_type == "cispo":
        losses = -ratio.detach().clamp(max=epsilon_high) * token_advantages * log_probs
        clipped = ratio.detach() > epsilon_high
    else:
        bounded = ratio.clamp(1 - epsilon, 1 + epsilon_high) * token_advantages
        losses = -torch.minimum(ratio * token_advantages, bounded)
        clipped = (bounded < ratio * token_advantages).detach()
    losses = losses if importance_weights is None else losses * importance_weights
    losses = losses if kl_penalty is None else losses + kl_penalty
    if loss_type in ("grpo", "gspo"):
        losses = losses / lengths.clamp(min=1).repeat_interleave(repeats)
    elif loss_type == "dr_grpo":
        losses = losses / max_new_tokens
    return PolicyLoss(losses.sum(), clipped.sum())


def kl_estimate(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    r"""Estimate the KL divergence from the reference for each token.

    :math:`e^d - d - 1` with :math:`d = \log\pi_{ref} - \log\pi`: unbiased and never negative (k3 of Schulman 2020,
    http://joschu.net/blog/kl-approx.html).

    Args:
        log_probs: ``(tokens,)``.
        ref_log_probs: ``(tokens,)``, without a gradient.
    """
    difference = ref_log_probs - log_probs
    return difference.exp() - difference - 1
