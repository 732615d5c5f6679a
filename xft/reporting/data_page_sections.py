"""The parts of the data page that are written here: tables and histograms. The samples are not."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from xft.data import Ledger, Prepared, Samples
from xft.reporting.data_summary import histogram, oddities, packed, place, row_counts
from xft.reporting.html import bars, card, table, text
from xft.run_config.config import Recipe

_QUARANTINED = 200
_LONGEST_ROW = 1000


def parts_of(prepared: Prepared, recipe: Recipe | None) -> dict[str, str]:
    """The parts by the name of their place in the page, as markup.

    Args:
        prepared: the data.
        recipe: of the run; where it is given and packs, a part says how full the rows are.
    """
    ledger = prepared.ledger
    return {
        "splits": "".join(_summary(name, each) for name, each in ledger.splits.items()),
        "rows": table([(f"{n:,}", phrase) for n, phrase in [*row_counts(ledger), *oddities(ledger)]]),
        "packing": _packing(prepared, recipe),
        "histograms": "".join(_histograms("train", prepared.train) + _histograms("val", prepared.val)),
        "quarantine": _quarantine(ledger),
        "near": _near(ledger),
    }


def _summary(name: str, figures: dict[str, Any]) -> str:
    lengths, targets = figures["length"], figures["target_length"]
    rows = [
        ("samples", f"{figures['samples']:,}"),
        ("tokens", f"{figures['tokens']:,}"),
        ("trained", f"{figures['target_tokens']:,} ({figures['target_share']:.0%})"),
        (
            "tokens of a sample",
            f"p50 {lengths['p50']:,}, p95 {lengths['p95']:,}, longest {lengths['max']:,}",
        ),
        ("trained of these", f"p50 {targets['p50']:,}, p95 {targets['p95']:,}, longest {targets['max']:,}"),
    ]
    return card(name, table(rows))


def _histograms(name: str, samples: Samples) -> list[str]:
    if not len(samples):
        return []
    return [
        bars(f"{name}: tokens of a sample", histogram(samples.lengths)),
        bars(f"{name}: trained tokens of a sample", histogram(samples.targets)),
    ]


def _packing(prepared: Prepared, recipe: Recipe | None) -> str:
    found = None if recipe is None else packed(prepared, recipe)
    if found is None:
        return "<p>Not packed: a row is one sample.</p>" if recipe is not None else ""
    figures = found.figures
    lines = [
        f"Packed into {figures['rows']:,} rows of {figures['capacity']:,} tokens, {figures['fill']:.1%} full.",
        *found.notes,
    ]
    return "".join(f"<p>{text(each)}</p>\n" for each in lines)


def _quarantine(ledger: Ledger) -> str:
    if not ledger.quarantine_files:
        return ""
    shown = list(islice(_set_aside(ledger.quarantine_files), _QUARANTINED))
    total = sum(_count_lines(each) for each in ledger.quarantine_files)
    files = "".join(f"<br><code>{text(each)}</code>" for each in ledger.quarantine_files)
    first = f"The first {len(shown):,} of them. " if total > len(shown) else ""
    return (
        f'<section id="quarantine"><h2>Set aside: {total:,} rows</h2>\n'
        f"<p>These rows do not fit, and nothing is learnt from them. {first}All stand whole in{files}</p>\n"
        f'<div class="scroll">{table(shown, ("where", "why", "row"))}</div></section>\n'
    )


def _set_aside(files: Iterable[Path]) -> Iterator[tuple[str, str, str]]:
    """Place, reason and row of what was set aside; a long row is cut, and says so."""
    for path in files:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                each = json.loads(line)
                row = each["row"]
                said = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)
                if len(said) > _LONGEST_ROW:
                    said = f"{said[:_LONGEST_ROW]} … and {len(said) - _LONGEST_ROW:,} more characters"
                yield place(each), each["reason"], "could not be read" if row is None else said


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _near(ledger: Ledger) -> str:
    if not ledger.near_examples:
        return ""
    rows = [(later, earlier, f"{share:.0%}") for earlier, later, share in ledger.near_examples]
    more = f"{len(rows)} of {ledger.near_duplicates:,}: " if ledger.near_duplicates > len(rows) else ""
    return (
        f'<section id="near"><h2>Near duplicates: {ledger.near_duplicates:,}</h2>\n<p>{more}rows that share '
        "most of their token sequences with an earlier one.</p>\n"
        f'<div class="scroll">{table(rows, ("row", "repeats", "in common"))}</div></section>\n'
    )
