"""End reinforcement learning when nothing is left to learn."""

from collections.abc import Mapping, Sequence

from xft.registry import register
from xft.training.hooks.base import Hook
from xft.training.runner import Runner
from xft.types import Batch
from xft.types.ranges import Count, Real
from xft.utils import console


@register("hooks", "stop_at_reward")
class StopAtRewardHook(Hook):
    """End the run when the mean reward of ``steps`` consecutive rollouts is at least ``reward``.

    Args:
        reward: mean reward at which the task counts as learned.
        steps: number of consecutive rollouts, each of which is a step with ``rollout.num_iterations=1``.
    """

    # Before sample_generation and checkpoint, which act at the last step.
    priority = "HIGH"

    def __init__(self, reward: Real, steps: Count = 2) -> None:
        self.reward, self.steps = reward, steps

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Sequence[Batch], outputs: Mapping[str, float]
    ) -> None:
        """Count the rollouts in a row, and set the reason to stop."""
        if "rollout_seconds" not in outputs:  # the step has sampled no completions
            return
        state = runner.state.setdefault("stop_at_reward", {"reached": 0})
        state["reached"] = (
            state["reached"] + 1 if outputs.get("reward", float("-inf")) >= self.reward else 0
        )
        if state["reached"] >= self.steps:
            reason = f"the mean reward was at least {self.reward:g} in {self.steps} rollouts"
            runner.train_loop.stop_reason = reason
            console.info(f"  stopping early: {reason}")
