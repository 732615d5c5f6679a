"""Losses as functions of tensors, without models, data or configuration."""

from xft.losses.cross_entropy import cross_entropy_sum
from xft.losses.kto import kto
from xft.losses.log_probs import sum_by_sample, token_log_probs
from xft.losses.orpo import log_odds, odds_ratio
from xft.losses.preference import PAIR_LOSSES, PairLoss
from xft.losses.reward import bradley_terry, focal, l2_penalty, log_barrier

__all__ = [
    "PAIR_LOSSES",
    "PairLoss",
    "bradley_terry",
    "cross_entropy_sum",
    "focal",
    "kto",
    "l2_penalty",
    "log_barrier",
    "log_odds",
    "odds_ratio",
    "sum_by_sample",
    "token_log_probs",
]
