"""Completions for the report: the best and the worst of the first and the last step."""

from typing import Any

import pytest

from xft.reporting.rollout_samples import is_rollout, select_rollouts


def record(step: int, *rewards: float | None) -> dict[str, Any]:
    completions = [
        {"text": f"answer {reward}", "tokens": 3, "stopped": True, "reward": reward, "mine": reward}
        for reward in rewards
    ]
    return {"step": step, "row": f"rows.jsonl:{step}", "prompt": "Hi", "completions": completions}


def test_best_and_worst_of_the_first_and_the_last_step() -> None:
    steps = select_rollouts([record(1, 0.5, 0.1), record(2, 0.3, 0.4), record(3, None, 0.9, 1.0)])
    assert [step.step for step in steps] == [1, 3]
    (first,), (last,) = (step.groups for step in steps)
    assert (first.best.reward, first.worst.reward, first.mean) == (0.5, 0.1, pytest.approx(0.3))
    assert (last.best.reward, last.worst.reward, last.count) == (1.0, 0.9, 3)
    assert last.best.parts == {"mine": 1.0}


def test_one_step_is_shown_once_and_groups_without_reward_are_left_out() -> None:
    (step,) = select_rollouts([record(1, 0.5), record(1, None, None)])
    assert len(step.groups) == 1
    assert select_rollouts([]) == []
    assert select_rollouts([record(1, None)]) == []


def test_all_turns_of_an_episode_are_shown() -> None:
    episode = record(1, 0.5)
    roles = ("assistant", "tool", "assistant")
    episode["completions"][0]["turns"] = [{"role": role, "content": role[0]} for role in roles]
    assert is_rollout(episode)
    (step,) = select_rollouts([episode])
    assert step.groups[0].best.text == "assistant: a\n\ntool: t\n\nassistant: a"
    episode["completions"][0]["turns"] = [{"role": "tool", "content": 3}]
    assert not is_rollout(episode)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "1"},
        {"row": None},
        {"prompt": 3},
        {"completions": None},
        {"completions": ["text"]},
        {"completions": [{"text": "a", "stopped": True}]},
        {"completions": [{"text": "a", "stopped": True, "reward": "1"}]},
        {"completions": [{"text": 1, "stopped": True, "reward": 1.0}]},
    ],
)
def test_damaged_records_are_not_read(change: dict[str, Any]) -> None:
    assert is_rollout(record(1, 0.5))
    assert not is_rollout(record(1, 0.5) | change)
