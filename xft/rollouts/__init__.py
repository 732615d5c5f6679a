"""Reinforcement learning: sample completions with the trained model, and score them with rewards."""

from xft.rollouts.collector import Rollout, RolloutCollector
from xft.rollouts.config import RolloutConfig
from xft.rollouts.engines import Engine, LocalEngine, PolicyModel
from xft.rollouts.environments import Environment, calculator
from xft.rollouts.policy_samples import (
    PolicyBatcher,
    PolicySample,
    policy_samples_from_tensors,
    policy_samples_to_tensors,
    to_policy_samples,
    with_old_log_probs,
)
from xft.rollouts.reward_model import RewardModel
from xft.rollouts.rewards import BatchReward, RewardFunction
from xft.rollouts.scoring import Reward, RewardSet
from xft.rollouts.server_engine import ServerEngine

__all__ = [
    "BatchReward",
    "Engine",
    "Environment",
    "LocalEngine",
    "PolicyBatcher",
    "PolicyModel",
    "PolicySample",
    "Reward",
    "RewardFunction",
    "RewardModel",
    "RewardSet",
    "Rollout",
    "RolloutCollector",
    "RolloutConfig",
    "ServerEngine",
    "calculator",
    "policy_samples_from_tensors",
    "policy_samples_to_tensors",
    "to_policy_samples",
    "with_old_log_probs",
]
