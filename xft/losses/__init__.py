"""Losses as functions of tensors, without models, data or configuration."""

from xft.losses.cross_entropy import cross_entropy_sum
from xft.losses.distillation import generalized_jsd, token_divergence
from xft.losses.grpo import LossType, PolicyLoss, RewardScale, group_advantages, kl_estimate, policy_loss
from xft.losses.kto import kto
from xft.losses.load_balancing import expert_counts, load_balancing_loss
from xft.losses.log_probs import sum_by_sample, token_log_probs
from xft.losses.orpo import log_odds, odds_ratio
from xft.losses.preference import PAIR_LOSSES, PairLoss
from xft.losses.reward import bradley_terry, focal, l2_penalty, log_barrier

__all__ = [
    "PAIR_LOSSES",
    "LossType",
    "PairLoss",
    "PolicyLoss",
    "RewardScale",
    "bradley_terry",
    "cross_entropy_sum",
    "expert_counts",
    "focal",
    "generalized_jsd",
    "group_advantages",
    "kl_estimate",
    "kto",
    "l2_penalty",
    "load_balancing_loss",
    "log_barrier",
    "log_odds",
    "odds_ratio",
    "policy_loss",
    "sum_by_sample",
    "token_divergence",
    "token_log_probs",
]
