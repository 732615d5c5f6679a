"""Signs that reinforcement learning goes wrong, each from the metrics that show it, and none in healthy runs."""

import json
import math
import random

import pytest

from xft.training.rollout_health import WINDOW, check_rollouts, new_rollout_health

START = {
    "reward": 0.3,
    "reward_std": 0.2,
    "frac_reward_zero_std": 0.2,
    "completions/mean_length": 40.0,
    "completions/repetition": 0.05,
    "entropy": 1.2,
}
SIGNS = {
    "completions grow": {"completions/mean_length": 75.0},
    "repeat themselves": {"completions/repetition": 0.7, "reward": 0.9},
    "entropy has collapsed": {"entropy": 0.05},
    "teach nothing. The task is too hard": {"frac_reward_zero_std": 0.95, "reward": 0.0},
    "The task may be learned": {"frac_reward_zero_std": 1.0, "reward": 0.98},
}


def run(steps: list[dict[str, float]]) -> list[str]:
    state = new_rollout_health()
    return [warning for step in steps for warning in check_rollouts(state, step)]


@pytest.mark.parametrize("sign", SIGNS)
def test_each_sign_is_reported_once(sign: str) -> None:
    late = {**START, **SIGNS[sign]}
    assert run([START] * WINDOW + [late] * (WINDOW - 1)) == []
    (warning,) = run([START] * WINDOW + [late] * 50)
    assert sign in warning


def healthy(noise: random.Random, steps: int) -> list[dict[str, float]]:
    """A run that learns: reward and length grow, and entropy falls."""
    rows = []
    for step in range(steps):
        done = step / steps
        row = {
            "reward": 0.1 + 0.85 * done,
            "reward_std": 0.25 * (1 - 0.8 * done),
            "frac_reward_zero_std": 0.1 + 0.6 * done,
            "completions/mean_length": 40 + 160 * done,
            "completions/repetition": 0.02 + 0.1 * done,
            "entropy": 1.2 * (1 - 0.95 * done),
        }
        rows.append({name: value * noise.uniform(0.8, 1.2) for name, value in row.items()})
    return rows


@pytest.mark.parametrize("steps", [12, 40, 300])
def test_a_healthy_run_has_no_warning(steps: int) -> None:
    noise = random.Random(0)
    assert [warning for _ in range(20) for warning in run(healthy(noise, steps))] == []
    flat = [{name: value * noise.uniform(0.7, 1.3) for name, value in START.items()} for _ in range(steps)]
    assert run(flat) == []


def test_shorter_completions_are_no_sign() -> None:
    assert run([START] * WINDOW + [START | {"completions/mean_length": 10.0}] * 20) == []


def test_without_rewards_only_repetition_is_checked() -> None:
    plain = {name: START[name] for name in START if not name.startswith(("reward", "frac"))}
    late = plain | {"completions/repetition": 0.8, "entropy": 0.0, "completions/mean_length": 400.0}
    (warning,) = run([plain] * WINDOW + [late] * 20)
    assert "repeat themselves" in warning


def test_steps_without_values_are_left_out_and_the_state_is_json() -> None:
    state = new_rollout_health()
    for _ in range(WINDOW):
        assert check_rollouts(state, START | {"reward": math.nan}) == []
        check_rollouts(state, START)
    restored = json.loads(json.dumps(state))
    assert len(restored["first"]) == WINDOW
    late = START | {"entropy": 0.01}
    for _ in range(WINDOW - 1):
        assert check_rollouts(restored, late) == []
    assert len(check_rollouts(restored, late)) == 1
