"""Select completions of reinforcement learning for a page: the best and the worst of some groups."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_PROMPTS = 6
"""Prompts shown of a step."""


@dataclass(frozen=True)
class ShownCompletion:
    """One completion.

    Attributes:
        text: its text; in an environment, all turns.
        reward: weighted sum of its rewards; ``None`` for one that was left out.
        parts: rewards by name.
        stopped: whether the model ended it.
    """

    text: str
    reward: float | None
    parts: Mapping[str, float | None]
    stopped: bool


@dataclass(frozen=True)
class ShownGroup:
    """A prompt with its best and its worst completion, and the mean reward of all."""

    row: str
    prompt: str
    mean: float
    best: ShownCompletion
    worst: ShownCompletion
    count: int


@dataclass(frozen=True)
class ShownStep:
    """Groups of one step."""

    step: int
    groups: tuple[ShownGroup, ...]


_FIELDS = ("text", "tokens", "stopped", "reward", "turns")


def select_rollouts(records: Sequence[Mapping[str, Any]]) -> list[ShownStep]:
    """Return groups of the first and of the last step.

    Args:
        records: records of ``rollouts.jsonl``.
    """
    steps = sorted({record["step"] for record in records})
    chosen = dict.fromkeys([steps[0], steps[-1]]) if steps else {}
    shown = []
    for step in chosen:
        groups = tuple(_groups(record for record in records if record["step"] == step))
        if groups:
            shown.append(ShownStep(step, groups[:MAX_PROMPTS]))
    return shown


def _groups(records: Iterator[Mapping[str, Any]]) -> Iterator[ShownGroup]:
    for record in records:
        completions = [_completion(item) for item in record["completions"]]
        scored = [(item.reward, item) for item in completions if item.reward is not None]
        if not scored:
            continue
        rewards = [reward for reward, _ in scored]
        yield ShownGroup(
            record["row"],
            record["prompt"],
            math.fsum(rewards) / len(rewards),
            max(scored, key=lambda pair: pair[0])[1],
            min(scored, key=lambda pair: pair[0])[1],
            len(completions),
        )


def _completion(item: Mapping[str, Any]) -> ShownCompletion:
    parts = {name: value for name, value in item.items() if name not in _FIELDS}
    turns = item.get("turns", [])
    text = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns) or item["text"]
    return ShownCompletion(text, item["reward"], parts, item["stopped"])


def is_rollout(record: object) -> bool:
    """Return whether a value is a record of ``rollouts.jsonl``."""
    return (
        isinstance(record, dict)
        and isinstance(record.get("step"), int)
        and isinstance(record.get("row"), str)
        and isinstance(record.get("prompt"), str)
        and isinstance(record.get("completions"), list)
        and all(_is_completion(item) for item in record["completions"])
    )


def _is_completion(item: object) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("text"), str)
        and isinstance(item.get("stopped"), bool)
        and "reward" in item
        and all(
            value is None or isinstance(value, (int, float))
            for name, value in item.items()
            if name not in ("text", "turns")
        )
        and isinstance(item.get("turns", []), list)
        and all(_is_turn(turn) for turn in item.get("turns", []))
    )


def _is_turn(turn: object) -> bool:
    return isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in ("role", "content"))
