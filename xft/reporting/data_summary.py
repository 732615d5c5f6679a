"""The data report: what became of every row, and what the splits look like, in a few lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xft.data import Ledger, Prepared, Samples, packing
from xft.data.duplicates import THRESHOLD
from xft.data.row_encoder import SET_ASIDE, TOO_LONG
from xft.data.sources import Origin
from xft.reporting.html import Bar
from xft.run_config.config import Recipe
from xft.run_config.plan import make_plan

NEAR = f"with {THRESHOLD:.0%} or more of the token sequences of an earlier row"
_EXAMPLES = 3
_BARS = 12
_SMALL = 8
_WIDTH = 40


@dataclass(frozen=True)
class Packed:
    """How full packed rows are.

    Attributes:
        figures: ``capacity`` in tokens, ``rows``, and ``fill``, a share.
        notes: what was adapted to little data, a line each.
    """

    figures: dict[str, float]
    notes: tuple[str, ...]


def histogram(values: npt.NDArray[Any], most: int = _BARS) -> list[Bar]:
    """Count whole numbers in bars of equal, round width.

    A few very great values would squeeze all others into the first bar, so what lies above the
    99th percentile is counted in the last one, which is then wider than the rest.

    Args:
        values: ``(count,)`` whole numbers, not negative.
        most: how many bars there may be, at least 2.

    Returns:
        Bars that touch each other, from the least to the greatest value; none without values.
    """
    if not len(values):
        return []
    low, high = int(values.min()), int(values.max())
    knee = math.ceil(np.percentile(values, 99))
    width = _round_up((knee - low + 1) / (most - 1))
    begin = low // width * width
    number = (knee - begin) // width + 1
    counts = np.bincount(
        np.minimum((values.astype(np.int64) - begin) // width, number - 1), minlength=number
    )
    bars = [Bar(begin + at * width, begin + (at + 1) * width - 1, int(n)) for at, n in enumerate(counts)]
    last = bars[-1]
    return [*bars[:-1], Bar(last.first, max(last.last, high), last.count)]


def _round_up(width: float) -> int:
    """The least of 1, 2, 3, 5, 10, 20, 30, 50 … that is not less than ``width``."""
    power = 1
    while True:
        for digit in (1, 2, 3, 5):
            if digit * power >= width:
                return digit * power
        power *= 10


def packed(prepared: Prepared, recipe: Recipe) -> Packed | None:
    """How the training rows will be packed on one device; ``None`` where they are not."""
    if not recipe.data.packing:
        return None
    plan = make_plan(
        prepared.train,
        recipe.training,
        recipe.data.pack_length,
        True,
        recipe.seed,
        samples_per_example=prepared.samples_per_example,
    )
    batches = plan.batches
    assert batches.capacity is not None
    return Packed(packing.describe(batches.lengths, batches.rows(0), batches.capacity), plan.notes)


def row_counts(ledger: Ledger) -> list[tuple[int, str]]:
    """What became of the rows: how many, and a phrase that goes on from the number.

    The books close: the first number is the sum of those to train on, to validate on and dropped.
    """
    out = [(ledger.rows_read, "rows read")]
    if ledger.rows_available > ledger.rows_read:
        out = [(ledger.rows_read, f"rows read, of {ledger.rows_available:,} that the sources hold")]
    out += [(ledger.rows_train, "to train on"), (ledger.rows_val, "to validate on")]
    out += [(count, f"dropped: {reason}") for reason, count in ledger.rows_dropped.items() if count]
    if ledger.rows_truncated:
        out.append((ledger.rows_truncated, "of these cut to length"))
    return out


def oddities(ledger: Ledger) -> list[tuple[int, str]]:
    """What a person should know of the rows, in the same form; nothing where all is well."""
    found = [
        (ledger.exact_duplicates, "with the same tokens as an earlier row"),
        (ledger.near_duplicates, NEAR),
        (
            ledger.rows_with_special_tokens,
            "with a special token spelt in the content: it becomes that token, "
            "as if the template had written it",
        ),
        (
            ledger.rows_with_unknown_characters,
            "with a character that the tokenizer has no token for: the model cannot read it",
        ),
        (
            ledger.rows_chosen_scored_lower,
            "whose own scores say that the rejected answer is the better one; they are learned as they stand",
        ),
    ]
    return [(count, phrase) for count, phrase in found if count]


def place(quarantined: dict[str, Any]) -> str:
    """Where a row that was set aside stands."""
    if "line" in quarantined:
        return str(Origin(quarantined["file"], quarantined["line"]))
    return str(Origin(quarantined["file"], quarantined["number"], "row"))


def totals(prepared: Prepared, recipe: Recipe | None = None) -> list[str]:
    """The report for the terminal.

    Args:
        prepared: the data.
        recipe: of the run; where it is given and packs, the report says how full the rows are.
    """
    ledger = prepared.ledger
    lines: list[str] = []
    counts = row_counts(ledger)
    aside = [phrase for _, phrase in counts if phrase.removeprefix("dropped: ") in SET_ASIDE]
    for count, phrase in counts:
        lines.append(_counted(count, phrase))
        if phrase in aside[-1:]:
            lines += _quarantine(ledger)
    if ledger.rows_dropped[TOO_LONG] or ledger.rows_truncated:
        lines.append(_under(f"tokens of a row before that: {ledger.length_summary()}"))
    for count, phrase in oddities(ledger):
        lines.append(_counted(count, phrase))
        if phrase == NEAR:
            lines += _near(ledger)
    for name in ledger.splits:
        lines += [
            "",
            *_split(name, ledger.splits[name], prepared.train if name == "train" else prepared.val),
        ]
    if recipe is not None:
        lines += _packing(packed(prepared, recipe))
    return lines


def _counted(count: int, phrase: str) -> str:
    return f"{count:>9,} {phrase}"


def _under(text: str) -> str:
    return f"{'':>9}   {text}"


def _quarantine(ledger: Ledger) -> list[str]:
    shown = ledger.quarantined[:_EXAMPLES]
    lines = [_under(f"{place(each)}: {each['reason']}") for each in shown]
    if sum(ledger.rows_dropped[each] for each in SET_ASIDE) > len(shown):
        lines.append(_under("…"))
    return lines + [_under(f"all of them, with their reasons: {file}") for file in ledger.quarantine_files]


def _near(ledger: Ledger) -> list[str]:
    shown = ledger.near_examples[:_EXAMPLES]
    lines = [_under(f"{later} repeats {earlier} ({share:.0%})") for earlier, later, share in shown]
    return lines + ([_under("…")] if ledger.near_duplicates > len(shown) else [])


def _split(name: str, figures: dict[str, Any], samples: Samples) -> list[str]:
    lines = [
        f"{name:<6}{figures['samples']:,} sample{'s' * (figures['samples'] != 1)}, {figures['tokens']:,} tokens, "
        f"{figures['target_tokens']:,} of them trained ({figures['target_share']:.0%})"
    ]
    if not len(samples):
        return lines
    for title, key in (("tokens of a sample", "length"), ("trained of these", "target_length")):
        of = figures[key]
        lines.append(
            f"      {title:<20}p50 {of['p50']:>7,}   p95 {of['p95']:>7,}   longest {of['max']:>7,}"
        )
    lines += _drawn(histogram(samples.lengths, _SMALL))
    return lines


def _drawn(bars: Sequence[Bar]) -> list[str]:
    """A histogram as text; one bar says no more than the figures above it."""
    if len(bars) < 2:
        return []
    most = max(each.count for each in bars)
    digits = len(f"{bars[-1].last:,}")
    lines = []
    for each in bars:
        # What is there at all can be seen.
        length = max(round(_WIDTH * each.count / most), 1 if each.count else 0)
        span = f"{each.first:>{digits},} – {each.last:>{digits},}"
        lines.append(f"        {span}  {'█' * length}{' ' if length else ''}{each.count:,}")
    return lines


def _packing(found: Packed | None) -> list[str]:
    if found is None:
        return []
    figures = found.figures
    line = f"packed into {figures['rows']:,} rows of {figures['capacity']:,} tokens, {figures['fill']:.1%} full"
    return ["", line, *(f"note: {each}" for each in found.notes)]
