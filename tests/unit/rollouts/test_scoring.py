"""Apply rewards: weights, missing values, and rewards that fail in every way."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from xft.errors import ConfigError, DataError, TrainingError
from xft.models.generation import Completion
from xft.rollouts import BatchReward, RewardSet
from xft.rollouts.scoring import Reward
from xft.types import Row
from xft.utils import console

COMPLETIONS = [Completion("a", "stop", 1), Completion("bb", "stop", 2), Completion("ccc", "length", 3)]
ROWS: list[Row] = [{"n": 1}, {"n": 2}, {"n": 3}]
ORIGINS = ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3"]


def length(completion: Completion, row: Row) -> float:
    return float(len(completion.text))


class Batch(BatchReward):
    def __init__(self, values: Any) -> None:
        self.values = values

    def score(self, completions: Sequence[Completion], rows: Sequence[Row]) -> Any:
        return self.values


def score(reward: Reward, on_error: str = "error", timeout: float = 5.0) -> Any:
    return RewardSet({"mine": reward}, {}, on_error, timeout).score(COMPLETIONS, ROWS, ORIGINS)


def test_the_total_is_the_weighted_sum() -> None:
    rewards = RewardSet({"length": length, "n": lambda _, row: row["n"]}, {"n": 0.5})
    scored = rewards.score(COMPLETIONS, ROWS, ORIGINS)
    assert scored.totals == [1.5, 3.0, 4.5]
    assert scored.rewards_by_name == {"length": [1.0, 2.0, 3.0], "n": [1.0, 2.0, 3.0]}


def test_none_omits_the_reward_from_the_weighted_sum() -> None:
    rewards = RewardSet({"length": length, "some": lambda _, row: None if row["n"] == 2 else 1.0}, {})
    scored = rewards.score(COMPLETIONS, ROWS, ORIGINS)
    assert scored.totals == [2.0, 2.0, 4.0]
    assert math.isnan(scored.rewards_by_name["some"][1])


def test_a_completion_whose_rewards_are_all_none_is_excluded() -> None:
    totals = score(lambda completion, row: None if row["n"] == 2 else 1.0).totals
    assert totals[0] == totals[2] == 1.0
    assert math.isnan(totals[1])


def test_a_reward_cannot_change_the_row() -> None:
    def careless(completion: Completion, row: Row) -> float:
        row.clear()
        return 1.0

    score(careless)
    assert ROWS == [{"n": 1}, {"n": 2}, {"n": 3}]


def raise_at_two(error: Exception) -> Callable[[Completion, Row], float]:
    def reward(completion: Completion, row: Row) -> float:
        if row["n"] == 2:
            raise error
        return 1.0

    return reward


def slow(completion: Completion, row: Row) -> float:
    time.sleep(1.0 if row["n"] == 2 else 0.0)
    return 1.0


def value_at_two(value: Any) -> Any:
    return lambda completion, row: value if row["n"] == 2 else 1.0


BAD = {
    "key_error": raise_at_two(KeyError("answer")),
    "zero_division": raise_at_two(ZeroDivisionError("division by zero")),
    "data_error": raise_at_two(DataError(key="reference", got=None, expected="text")),
    "stop_iteration": raise_at_two(StopIteration()),
    "recursion": raise_at_two(RecursionError("too deep")),
    "lines": raise_at_two(ValueError("first\nsecond \x1b[31m")),
    "nan": value_at_two(float("nan")),
    "infinite": value_at_two(float("-inf")),
    "text": value_at_two("1.0"),
    "list": value_at_two([1.0]),
    "dict": value_at_two({"reward": 1.0}),
    "huge": value_at_two(10**400),
    "numpy_nan": value_at_two(np.float32("nan")),
    "tensor_of_two": value_at_two(torch.ones(2)),
    "complex": value_at_two(1j),
    "function": value_at_two(len),
    "wrong_signature": lambda completion: 1.0,
    "keyword_only": lambda *, completion, row: 1.0,
}


@pytest.mark.parametrize("name", BAD)
def test_a_reward_that_fails_is_one_line_with_its_row(name: str) -> None:
    with pytest.raises(TrainingError) as caught:
        score(BAD[name])
    message = str(caught.value)
    assert caught.value.key == "rewards.mine"
    assert "rows.jsonl:" in message
    assert message.isprintable()


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("wrong_signature", "keyword_only")])
def test_skip_excludes_a_completion_on_which_a_reward_fails(name: str) -> None:
    scored = score(BAD[name], on_error="skip")
    assert scored.failures == 1
    assert math.isnan(scored.totals[1])
    assert scored.totals[0] == scored.totals[2] == 1.0


def test_a_reward_that_exceeds_the_timeout_fails() -> None:
    with pytest.raises(TrainingError) as caught:
        score(slow, timeout=0.05)
    assert "reward_timeout" in str(caught.value)


@pytest.mark.parametrize("values", [[1.0], [1.0] * 4, None, 3.0, [1.0, float("nan"), 1.0], ["a", "b", "c"]])
def test_a_batch_reward_returns_a_number_for_each_completion(values: Any) -> None:
    with pytest.raises(TrainingError) as caught:
        score(Batch(values))
    assert caught.value.key == "rewards.mine"


class RaisingBatch(BatchReward):
    def score(self, completions: Sequence[Completion], rows: Sequence[Row]) -> Any:
        raise ConnectionError("no answer")


class SlowBatch(BatchReward):
    def score(self, completions: Sequence[Completion], rows: Sequence[Row]) -> Any:
        time.sleep(2.0)
        return [1.0] * len(completions)


@pytest.mark.parametrize("reward", [RaisingBatch(), SlowBatch(), Batch([1.0]), Batch(None), Batch(3.0)])
def test_skip_excludes_all_completions_of_a_failing_batch(
    reward: BatchReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    rewards = RewardSet({"length": length, "mine": reward}, {}, "skip", timeout=0.5)
    scored = rewards.score(COMPLETIONS, ROWS, ORIGINS)
    assert scored.failures == 3
    assert all(map(math.isnan, scored.totals))
    assert scored.rewards_by_name["length"] == [1.0, 2.0, 3.0]
    assert all(map(math.isnan, scored.rewards_by_name["mine"]))
    (line,) = lines
    assert "warning: rewards.mine: " in line
    assert "skipped 3 completions" in line


@pytest.mark.parametrize("value", [float("nan"), "1.0", [1.0], 1j, pytest.param(10**400, id="huge")])
def test_skip_excludes_a_completion_whose_value_in_a_batch_is_invalid(value: Any) -> None:
    scored = score(Batch([1.0, value, 2.0]), on_error="skip")
    assert scored.failures == 1
    assert math.isnan(scored.totals[1])
    assert [scored.totals[0], scored.totals[2]] == [1.0, 2.0]


@pytest.mark.parametrize("reward", [BAD["key_error"], RaisingBatch(), Batch([1.0, float("nan"), 1.0])])
def test_only_an_error_that_skip_would_prevent_recommends_skip(
    reward: Reward, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    with pytest.raises(TrainingError, match=r"set rollout\.on_reward_error='skip'"):
        score(reward, on_error="error")
    score(reward, on_error="skip")
    with pytest.raises(TrainingError) as caught:
        RewardSet({"mine": reward}, {}, "skip").check({"n": 2}, "rows.jsonl:1")
    assert "on_reward_error" not in f"{lines} {caught.value}"


def test_a_batch_reward_may_return_a_tensor() -> None:
    assert score(Batch(torch.tensor([1.0, 2.0, 0.5]))).totals == [1.0, 2.0, 0.5]


def test_rewards_are_tried_before_training() -> None:
    with pytest.raises(TrainingError) as caught:
        RewardSet({"mine": BAD["wrong_signature"]}, {}, "skip").check({"prompt": "Hi"}, "rows.jsonl:1")
    assert caught.value.key == "rewards.mine"


def test_without_rewards_there_is_no_total() -> None:
    scored = RewardSet({}, {}).score(COMPLETIONS, ROWS, ORIGINS)
    assert all(math.isnan(total) for total in scored.totals)
    assert len(scored.totals) == 3


def test_a_weight_without_its_reward_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        RewardSet({"length": length}, {"lenght": 1.0})
    assert caught.value.key == "objective.reward_weights.lenght"
