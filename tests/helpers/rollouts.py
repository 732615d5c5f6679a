"""Rollouts without a model, and prompts without a store."""

from collections.abc import Sequence

import torch

from xft.models.generation import Completion
from xft.models.sampling import SampledTokens
from xft.rollouts import Rollout
from xft.templates import BoundTemplate
from xft.types import IGNORE_INDEX, Message, Row, Sample


def make_rollout(
    rewards: list[float],
    prompt: int = 3,
    lengths: Sequence[int] = (2, 4),
    advantages: tuple[float, ...] = (),
) -> Rollout:
    """Return a rollout of one prompt.

    Args:
        rewards: reward of each completion.
        prompt: number of tokens of the prompt.
        lengths: number of tokens of each completion; those of fewer than 4 were ended by the model.
        advantages: of each completion.
    """
    tokens = [
        SampledTokens(
            list(range(20, 20 + length)), [-0.1 * length] * length, [1.0] * length, stopped=length < 4
        )
        for length in lengths
    ]
    completions = [Completion("text", "stop", length) for length in lengths]
    return Rollout(
        "rows.jsonl:1", list(range(prompt)), tokens, completions, rewards, {"a": rewards}, advantages
    )


class PromptRows:
    """Prompts with an id, as a view of a store gives them.

    Args:
        template: bound template.
        texts: a message of the user each.
    """

    def __init__(self, template: BoundTemplate, texts: Sequence[str] = ("Hi", "Hello you")) -> None:
        rendered = [template.render([Message("user", text)], generation=True) for text in texts]
        self.ids = [template.tokenizer(text, add_special_tokens=False)["input_ids"] for text in rendered]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        ids = torch.tensor(self.ids[index], dtype=torch.int32).numpy()
        return Sample(ids, ids * 0 + IGNORE_INDEX)

    def origin(self, index: int) -> str:
        """Return the location of a row."""
        return f"rows.jsonl:{index + 1}"

    def columns(self, index: int) -> Row:
        """Return the columns of a row."""
        return {"number": index}
