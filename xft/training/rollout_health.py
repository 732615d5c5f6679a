"""Signs that reinforcement learning goes wrong: hacked rewards, collapsed entropy, rewards without spread."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

WINDOW = 5
"""Steps whose mean is compared with that of the first steps: fewer are noise."""
LENGTH_GROWTH, MIN_LENGTH_GROWTH = 1.5, 8
"""Growth of the completions that counts, as a factor and in tokens."""
REPETITION, MIN_REPETITION_GROWTH = 0.5, 0.2
"""Share of repeated 4-grams that counts, and its growth; lists repeat a few."""
ENTROPY_LOSS = 0.1
"""Fraction of the entropy of the first steps below which it has collapsed."""
EQUAL_GROUPS = 0.8
"""Share of prompts whose completions all have the same reward that counts."""

_NAMES = (
    "reward",
    "reward_std",
    "frac_reward_zero_std",
    "completions/mean_length",
    "completions/repetition",
    "entropy",
)
Metrics = Mapping[str, float]


class RolloutHealth(TypedDict):
    """What is remembered between steps, and stored in checkpoints.

    Attributes:
        first, last: metrics of the first and of the last steps.
        reported: names of the signs that were reported; each is reported once in a run.
    """

    first: list[dict[str, float]]
    last: list[dict[str, float]]
    reported: list[str]


def new_rollout_health() -> RolloutHealth:
    """Return the state before the first step."""
    return RolloutHealth(first=[], last=[], reported=[])


def check_rollouts(state: RolloutHealth, outputs: Metrics) -> list[str]:
    """Add a step, and return warnings: what was seen, what it may mean, and what helps.

    Args:
        state: of the run, changed in place.
        outputs: metrics of the step. Without rewards, only repetition is checked.
    """
    values = {name: outputs[name] for name in _NAMES if name in outputs}
    if any(map(math.isnan, values.values())):  # NaN: nothing was sampled, or no reward was given
        return []
    if len(state["first"]) < WINDOW:
        state["first"].append(values)
        return []
    state["last"] = [*state["last"], values][-WINDOW:]
    if len(state["last"]) < WINDOW:
        return []
    first, last = _means(state["first"]), _means(state["last"])
    warnings = []
    for name, check in _CHECKS.items():
        if name in state["reported"] or ("reward" not in last and name != "repetition"):
            continue
        if (warning := check(first, last)) is not None:
            state["reported"].append(name)
            warnings.append(warning)
    return warnings


def _means(steps: Sequence[Metrics]) -> Metrics:
    return {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}


def _has_risen(first: Metrics, last: Metrics, deviations: float) -> bool:
    """Whether the reward has risen, in standard deviations within the groups of the first steps."""
    return last["reward"] - first["reward"] > deviations * first["reward_std"] + 1e-6


def _check_length(first: Metrics, last: Metrics) -> str | None:
    before, now = first["completions/mean_length"], last["completions/mean_length"]
    if now < LENGTH_GROWTH * before or now < before + MIN_LENGTH_GROWTH or _has_risen(first, last, 0.25):
        return None
    return (
        f"completions grow without a higher reward: {now:.0f} tokens on average, {before:.0f} in the first steps; reward "
        f"{last['reward']:.3f}, before {first['reward']:.3f}. The model may earn rewards by length: read rollouts.jsonl, and "
        "add a reward of type 'length'"
    )


def _check_repetition(first: Metrics, last: Metrics) -> str | None:
    before, now = first["completions/repetition"], last["completions/repetition"]
    if now < REPETITION or now < before + MIN_REPETITION_GROWTH:
        return None
    return (
        f"completions repeat themselves: {now:.0%} of their sequences of 4 tokens occur before, {before:.0%} in the first "
        "steps. Read rollouts.jsonl: the reward may be hacked, or optimizer.lr too high"
    )


def _check_entropy(first: Metrics, last: Metrics) -> str | None:
    if last["entropy"] >= ENTROPY_LOSS * first["entropy"] or _has_risen(first, last, 1.0):
        return None
    return (
        f"the entropy has collapsed: {last['entropy']:.3f} nats per token, {first['entropy']:.3f} in the first steps, while "
        f"the reward is {last['reward']:.3f}, before {first['reward']:.3f}. All completions of a prompt are nearly the same, "
        "and the model explores nothing new: lower optimizer.lr"
    )


def _check_spread(first: Metrics, last: Metrics) -> str | None:
    share = last["frac_reward_zero_std"]
    if share < EQUAL_GROUPS:
        return None
    seen = (
        f"for {share:.0%} of the prompts all completions have the same reward (mean {last['reward']:.3f}, "
        f"{first['reward']:.3f} in the first steps), and such prompts teach nothing"
    )
    if _has_risen(first, last, 1.0):
        return f"{seen}. The task may be learned: a hook of type 'stop_at_reward' ends the run"
    return (
        f"{seen}. The task is too hard or too easy, or the reward too coarse: give partial credit, choose other prompts, or "
        "raise rollout.num_generations"
    )


_CHECKS: dict[str, Callable[[Metrics, Metrics], str | None]] = {
    "repetition": _check_repetition,
    "spread": _check_spread,
    "entropy": _check_entropy,
    "length": _check_length,
}
