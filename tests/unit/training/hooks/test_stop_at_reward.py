"""The run ends when the reward is high in consecutive steps."""

from typing import Any

import pytest
from helpers.runner import FakeRunner

from xft.training.hooks.stop_at_reward import StopAtRewardHook


@pytest.mark.parametrize(
    ("rewards", "stops_at"),
    [
        ([0.5, 0.98, 0.99], 3),
        ([0.98, 0.5, 0.99], None),
        ([0.97, 0.97], 2),
        ([0.99], None),
        ([None, None], None),
        # Steps that reuse the completions of the step before do not count.
        ([0.98, None, None, 0.5], None),
        ([0.98, None, 0.99], 3),
    ],
)
def test_run_stops_after_two_saturated_rollouts(rewards: list[float | None], stops_at: int | None) -> None:
    runner: Any = FakeRunner()
    hook = StopAtRewardHook(reward=0.97)
    stopped = None
    for number, reward in enumerate(rewards, 1):
        outputs = {"reward": 0.98} if reward is None else {"reward": reward, "rollout_seconds": 1.0}
        hook.after_train_iter(runner, number - 1, [], outputs)
        if runner.train_loop.stop_reason is not None and stopped is None:
            stopped = number
    assert stopped == stops_at
