"""Metrics of a reinforcement learning step.

``reward``, ``reward_std``, ``frac_reward_zero_std``, ``completions/mean_length`` and ``entropy`` have the names that
``GRPOTrainer`` of TRL logs (https://huggingface.co/docs/trl/grpo_trainer). The other names differ: ``rewards/NAME`` is
``rewards/NAME/mean`` in TRL, and ``completions/stopped`` is 1 - ``completions/clipped_ratio``. ``reward_std`` of TRL is
the standard deviation over all completions, not the mean over groups.
"""

import math
from collections.abc import Callable, Sequence

from xft.models.sampling import SampledTokens
from xft.rollouts.collector import Rollout


def rollout_metrics(
    rollouts: Sequence[Rollout],
    rewards: Sequence[str],
    reduce_sum: Callable[[Sequence[float]], list[float]],
) -> dict[str, float]:
    """Summarize the completions of all ranks.

    Args:
        rollouts: rollouts of this rank, all with the same number of completions.
        rewards: names of the rewards; empty without rewards.
        reduce_sum: function that sums numbers over all ranks.

    Returns:
        The metrics by name; without rewards, those of tokens, and a ``completions/failed`` of 0. A mean of nothing is NaN.

        - ``reward``: mean of the weighted sums of rewards.
        - ``reward_std``: mean of the standard deviations within groups.
        - ``frac_reward_zero_std``: fraction of groups whose rewards are all equal.
        - ``rewards/NAME``: mean of a reward.
        - ``completions/mean_length``: mean number of sampled tokens.
        - ``completions/stopped``: fraction of completions that end with a stop token.
        - ``completions/repetition``: mean fraction of 4-grams of sampled tokens that occur before in the completion.
        - ``entropy``: mean over the sampled tokens, in nats.
        - ``completions/failed``: number of completions without a reward: a reward failed on them
          (``rollout.on_reward_error='skip'``), or all rewards returned ``None``.
    """
    tokens = [sampled for rollout in rollouts for sampled in rollout.tokens]
    totals = [value for rollout in rollouts for value in rollout.rewards]
    present = [value for value in totals if not math.isnan(value)]
    rewards_by_name = {
        name: [
            value
            for rollout in rollouts
            for value in rollout.rewards_by_name[name]
            if not math.isnan(value)
        ]
        for name in rewards
    }
    deviations = [_std(rollout.rewards) for rollout in rollouts]
    lengths = [len(sampled.log_probs) for sampled in tokens]
    entropies = [entropy for sampled in tokens for entropy in sampled.entropies]
    scores: dict[str, tuple[float, float]] = {
        "reward": (sum(present), len(present)),
        "reward_std": (sum(deviations), len(deviations)),
        "frac_reward_zero_std": (sum(not rollout.has_spread for rollout in rollouts), len(rollouts)),
        **{f"rewards/{name}": (sum(values), len(values)) for name, values in rewards_by_name.items()},
    }
    pairs: dict[str, tuple[float, float]] = {
        **(scores if rewards else {}),
        "completions/mean_length": (sum(lengths), len(lengths)),
        "completions/stopped": (sum(sampled.stopped for sampled in tokens), len(tokens)),
        "completions/repetition": (sum(map(_repetition, tokens)), len(tokens)),
        "entropy": (sum(entropies), len(entropies)),
    }
    failed = len(totals) - len(present) if rewards else 0
    sums = reduce_sum([number for pair in pairs.values() for number in pair] + [failed])
    metrics = {
        name: sums[2 * index] / sums[2 * index + 1] if sums[2 * index + 1] else math.nan
        for index, name in enumerate(pairs)
    }
    return metrics | {"completions/failed": sums[-1]}


def _repetition(sampled: SampledTokens, size: int = 4) -> float:
    """Return the fraction of n-grams of ``size`` sampled tokens that occur before; 0 without such an n-gram.

    Tokens of an environment are not counted, and no n-gram spans them.
    """
    is_sampled = sampled.sampled or [True] * len(sampled.ids)
    sequences = [
        tuple(sampled.ids[start : start + size])
        for start in range(len(sampled.ids) - size + 1)
        if all(is_sampled[start : start + size])
    ]
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0


def _std(values: Sequence[float]) -> float:
    """Return the sample standard deviation of the values that are not NaN; 0 for fewer than two."""
    present = [value for value in values if not math.isnan(value)]
    if len(present) < 2:
        return 0.0
    mean = sum(present) / len(present)
    return math.sqrt(sum((value - mean) ** 2 for value in present) / (len(present) - 1))
