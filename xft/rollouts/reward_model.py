"""Use a trained reward model as a reward."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

import torch

from xft.data.formats import prompt
from xft.errors import DataError
from xft.evaluation.reward_scoring import RewardScorer
from xft.models import load_saved_model
from xft.models.generation import Completion
from xft.registry import register
from xft.rollouts.rewards import BatchReward
from xft.types import Conversation, Message, Row


@register("rewards", "reward_model")
class RewardModel(BatchReward):
    """Score the conversation of prompt and completion with a reward model (``xft train`` with objective ``reward``).

    The first call loads the model; ``rollout.reward_timeout`` includes the time to load it.

    Args:
        path: run folder, checkpoint, adapter or reward model.
        format: format of the prompts.
        bits: load the base model quantized to 4 or 8 bits.
        device: device of the reward model; ``auto`` is the current CUDA device if there is one, else the CPU.
        trust_remote_code: run Python code shipped with the weights.
    """

    def __init__(
        self,
        path: str,
        format: Callable[..., Any] = prompt,
        bits: Literal[4, 8] | None = None,
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        self.path, self.format, self.bits, self.device = path, format, bits, device
        self.trust_remote_code = trust_remote_code

    def score(self, completions: Sequence[Completion], rows: Sequence[Row]) -> list[float | None]:
        """Score all completions in batches.

        Args:
            completions: sampled completions.
            rows: row of each completion.

        Raises:
            DataError: a row has no prompt or does not fit ``format``, or a conversation does not fit the chat template of
                the reward model.
            ModelError: the reward model cannot be loaded.
        """
        conversations = [
            self._conversation(completion, row) for completion, row in zip(completions, rows, strict=True)
        ]
        return list(self._scorer.score_conversations(conversations))

    def _conversation(self, completion: Completion, row: Row) -> Conversation:
        value = self.format(row)
        messages = [*(value.messages if isinstance(value, Conversation) else value)]
        while messages and messages[-1].role == "assistant":
            messages.pop()
        if not messages:
            raise DataError(key="rewards.reward_model.format", got=list(row), expected="rows with a prompt")
        # Why a space: a conversation needs an answer that is not empty.
        return Conversation([*messages, Message("assistant", completion.text or " ", is_target=True)])

    @cached_property
    def _scorer(self) -> RewardScorer:
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        loaded = load_saved_model(
            self.path,
            bits=self.bits,
            device=torch.device(device),
            trust_remote_code=self.trust_remote_code,
            kind="reward_model",
        )
        return RewardScorer(loaded)
