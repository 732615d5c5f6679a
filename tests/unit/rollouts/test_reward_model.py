"""A trained reward model as a reward: the scores are those of ``xft score``."""

from collections.abc import Sequence
from typing import Any

import pytest

from xft.errors import DataError
from xft.models.generation import Completion
from xft.rollouts import RewardModel, reward_model
from xft.types import Conversation, Row


class FakeScorer:
    """Scores a conversation by the length of its last message."""

    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded

    def score_conversations(self, conversations: Sequence[Conversation]) -> list[float]:
        return [float(len(conversation.messages[-1].content)) for conversation in conversations]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> RewardModel:
    monkeypatch.setattr(reward_model, "load_saved_model", lambda path, **options: (path, options))
    monkeypatch.setattr(reward_model, "RewardScorer", FakeScorer)
    return RewardModel("runs/reward")


def test_prompt_and_completion_are_scored_as_a_conversation(model: RewardModel) -> None:
    completions = [Completion("four", "stop", 2), Completion("", "length", 1)]
    rows: list[Row] = [{"prompt": "Hi"}, {"prompt": [{"role": "user", "content": "Hi"}]}]
    assert model.score(completions, rows) == [4.0, 1.0]


def test_a_row_without_a_prompt_is_refused(model: RewardModel) -> None:
    with pytest.raises(DataError):
        model.score([Completion("a", "stop", 1)], [{"question": "Hi"}])
