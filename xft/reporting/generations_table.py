"""The sample questions in a page: what was answered when, and how an answer differs from the first one."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from xft.evaluation.text_normalization import SINGLE
from xft.reporting.html import Markup, folded, joined, table, text

Record = dict[str, Any]
_PIECE = re.compile(rf"\s+|[{SINGLE}]|(?:(?![{SINGLE}])[\w'-])+|[^\w\s]|\S")
_LONGEST = 4000
"""Longer answers are compared no further: it takes the square of their length."""


def differences(before: str, after: str) -> tuple[Markup, Markup]:
    """Two texts, word by word, Chinese and Japanese by characters: what the first has alone is ``del``, what the
    second has alone ``ins``."""
    old, new = (_PIECE.findall(each)[:_LONGEST] for each in (before, after))
    one: list[Markup] = []
    two: list[Markup] = []
    for kind, begin, end, start, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for out, pieces, tag in ((one, old[begin:end], "del"), (two, new[start:stop], "ins")):
            if pieces:
                said = text("".join(pieces))
                out.append(said if kind == "equal" else Markup(f"<{tag}>{said}</{tag}>"))
    return joined(one), joined(two)


def mark(record: Record) -> Markup:
    """The score of an answer, as a sign."""
    score = record.get("score")
    if not isinstance(score, (int, float)):
        return Markup('<span class="quiet">–</span>')
    kind, sign = ("good", "✓") if score >= 1 else ("bad", "✗") if score <= 0 else ("part", f"{score:.2f}")
    return Markup(f'<span class="mark {kind}">{sign}</span>')


def answer(said: Any, record: Record) -> Markup:
    """An answer as a block; one that did not end by itself says so."""
    end = "" if record.get("stopped", True) else '<span class="quiet"> … did not stop</span>'
    empty = '<span class="quiet">(nothing)</span>' if not record["answer"].strip() else ""
    return Markup(f'<div class="answer">{text(said)}{empty}{end}</div>')


def question(number: int, records: Sequence[Record]) -> Markup:
    """A question: the first answer beside the last, and all of them below."""
    first, last = records[0], records[-1]
    before, after = differences(first["answer"], last["answer"])
    rows = [(f"step {first['step']:,}", mark(first), answer(before, first))]
    if len(records) > 1:
        rows.append((f"step {last['step']:,}", mark(last), answer(after, last)))
    between = ""
    if len(records) > 2:
        middle = [
            (
                f"step {each['step']:,}",
                mark(each),
                answer(differences(first["answer"], each["answer"])[1], each),
            )
            for each in records[1:-1]
        ]
        between = folded(f"{len(middle)} in between", table(middle, kind="asked"))
    return Markup(
        f'<div class="card question"><h3>{number}. {text(first["question"])}</h3>{_context(first)}'
        f"{table(rows, kind='asked')}{between}</div>\n"
    )


def _context(record: Record) -> Markup:
    lines = [("system", record.get("system")), ("wanted", record.get("reference"))]
    return joined(
        Markup(f'<p class="quiet">{name}: {text(value)}</p>') for name, value in lines if value is not None
    )


def scores(asked: Sequence[Sequence[Record]]) -> Markup:
    """Which question was answered well at which step: a table of signs, with the sum below each step."""
    scored = [(number, each) for number, each in enumerate(asked, 1) if _is_scored(each)]
    steps = sorted({record["step"] for _, each in scored for record in each})
    if not scored:
        return Markup()
    rows: list[list[Any]] = []
    for number, each in scored:
        found = {record["step"]: mark(record) for record in each}
        rows.append([number, each[0]["question"], *(found.get(step, "") for step in steps)])
    sums = [
        sum(record["score"] or 0 for _, each in scored for record in each if record["step"] == step)
        for step in steps
    ]
    rows.append(["", "score", *(f"{each:g} of {len(scored)}" for each in sums)])
    return Markup(
        f'<div class="wide">{table(rows, ["", "question", *(f"step {each:,}" for each in steps)], "scores")}</div>'
    )


def _is_scored(records: Sequence[Record]) -> bool:
    return any(isinstance(each.get("score"), (int, float)) for each in records)
