"""Records of ``generations.jsonl``: which of them answer the same sample question."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PromptKey = tuple[str | None, str, tuple[str, ...], int]
"""System message, question, paths of its images, and the number of the same prompt within a step."""


def group_by_prompt(records: Iterable[Mapping[str, Any]]) -> dict[PromptKey, list[dict[str, Any]]]:
    """Return the records of each sample question, sorted by step.

    The same question about other images is another question. Prompts that are equal in all of this, with different
    references for instance, are told apart by their order.
    """
    groups: dict[PromptKey, list[dict[str, Any]]] = {}
    counts: Counter[object] = Counter()
    for record in records:
        prompt = (record.get("system"), record["question"], tuple(record.get("images") or ()))
        counts[record["step"], prompt] += 1
        groups.setdefault((*prompt, counts[record["step"], prompt]), []).append(dict(record))
    return {key: sorted(group, key=lambda record: int(record["step"])) for key, group in groups.items()}


def title_of(question: str, images: Sequence[str]) -> str:
    """Return a question with the file names of its images, as a title."""
    names = ", ".join(Path(path).name for path in images)
    return f"{question} [{names}]" if names else question
