"""Arrange the answers to the sample questions for a page, with word-level differences to the first one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from xft.evaluation.text_normalization import CJK
from xft.reporting.thumbnails import file_thumbnail
from xft.utils.generation_records import title_of

Record = dict[str, Any]
_WORD = re.compile(rf"\s+|[{CJK}]|(?:(?![{CJK}])[\w'-])+|[^\w\s]|\S")
_MAX_WORDS = 4000
"""Longer answers are compared up to here, since the time is quadratic."""


@dataclass(frozen=True)
class Piece:
    """Part of an answer; ``change`` is ``del`` or ``ins`` if the compared answer lacks it."""

    text: str
    change: Literal["", "del", "ins"] = ""


@dataclass(frozen=True)
class Answer:
    """One answer to a sample question.

    Attributes:
        step: at which it was generated.
        score: between 0 and 1; ``None`` without a scorer.
        pieces: its text.
        empty: whether the text is empty or white space.
        stopped: whether generation ended at a stop token.
    """

    step: int
    score: float | None
    pieces: tuple[Piece, ...]
    empty: bool
    stopped: bool


@dataclass(frozen=True)
class Thumbnail:
    """Small copy of an image as a data URL, empty if it cannot be read any more; and the name of its file."""

    source: str
    name: str


@dataclass(frozen=True)
class PromptHistory:
    """A sample question with its first and last answer, and the answers in between."""

    number: int
    question: str
    system: str | None
    reference: str | None
    shown: tuple[Answer, ...]
    between: tuple[Answer, ...]
    images: tuple[Thumbnail, ...] = ()


@dataclass(frozen=True)
class ScoreRow:
    """Scores of a sample question by step."""

    number: int
    question: str
    scores: dict[int, float | None]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of all scored questions, and their sum at each step."""

    steps: tuple[int, ...]
    rows: tuple[ScoreRow, ...]
    totals: tuple[float, ...]


def diff_words(before: str, after: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Compare two texts by words, Chinese and Japanese by characters."""
    old, new = (_WORD.findall(text)[:_MAX_WORDS] for text in (before, after))
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if i2 > i1:
            left.append(Piece("".join(old[i1:i2]), "" if kind == "equal" else "del"))
        if j2 > j1:
            right.append(Piece("".join(new[j1:j2]), "" if kind == "equal" else "ins"))
    return tuple(left), tuple(right)


def make_answer(record: Record, pieces: Sequence[Piece] | None = None) -> Answer:
    """Return the answer of a record, as one piece if ``pieces`` is ``None``."""
    text = record["answer"]
    pieces = (Piece(text),) if pieces is None else tuple(pieces)
    return Answer(record["step"], _score(record), pieces, not text.strip(), record.get("stopped", True))


def prompt_history(number: int, records: Sequence[Record], image_folder: Path = Path()) -> PromptHistory:
    """Compare the answers to one question with its first answer.

    Args:
        number: of the question, from 1.
        records: sorted by step.
        image_folder: folder of relative paths of images.
    """
    first, last = records[0], records[-1]
    before, after = diff_words(first["answer"], last["answer"])
    shown = [make_answer(first, before)]
    if len(records) > 1:
        shown.append(make_answer(last, after))
    between = [
        make_answer(record, diff_words(first["answer"], record["answer"])[1]) for record in records[1:-1]
    ]
    images = tuple(
        Thumbnail(file_thumbnail(path, image_folder), Path(path).name) for path in first.get("images", ())
    )
    return PromptHistory(
        number,
        first["question"],
        first.get("system"),
        first.get("reference"),
        tuple(shown),
        tuple(between),
        images,
    )


def score_table(prompts: Sequence[Sequence[Record]]) -> ScoreTable | None:
    """Collect the scores of all questions; ``None`` if no answer is scored."""
    scored = [
        (number, records) for number, records in enumerate(prompts, 1) if any(map(_is_scored, records))
    ]
    if not scored:
        return None
    steps = sorted({record["step"] for _, records in scored for record in records})
    rows = tuple(
        ScoreRow(
            number,
            title_of(records[0]["question"], records[0].get("images", ())),
            {record["step"]: _score(record) for record in records},
        )
        for number, records in scored
    )
    totals = tuple(sum(row.scores.get(step) or 0 for row in rows) for step in steps)
    return ScoreTable(tuple(steps), rows, totals)


def _is_scored(record: Record) -> bool:
    return _score(record) is not None


def _score(record: Record) -> float | None:
    score = record.get("score")
    return score if isinstance(score, (int, float)) else None
