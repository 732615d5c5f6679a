"""The data of a run in a page, from its ledger alone."""

from collections.abc import Iterator
from typing import Any

from xft.reporting.html import Bar, Markup, bars, card, folded, joined, table

_SHOWN = 20


def data(ledger: dict[str, Any]) -> Markup:
    """Tables and histograms of ``data_report.json``; nothing where there is none."""
    if not ledger:
        return Markup()
    splits = ledger.get("splits", {})
    return joined(
        [
            Markup(f'<div id="rows">{table(rows(ledger))}</div>'),
            Markup(
                f'<div class="cards">{joined(_split(*each) for each in splits.items())}{_packing(ledger)}</div>'
            ),
            Markup(f'<div class="figures">{joined(_histograms(splits))}</div>'),
            *_examples(ledger),
        ]
    )


def rows(ledger: dict[str, Any]) -> list[tuple[str, str]]:
    """What became of the rows; the books close."""
    counted = [
        ("rows_read", "rows read"),
        ("rows_train", "to train on"),
        ("rows_val", "to validate on"),
    ]
    out = [(ledger.get(key, 0), phrase) for key, phrase in counted]
    out += [
        (count, f"dropped: {reason}") for reason, count in ledger.get("rows_dropped", {}).items() if count
    ]
    odd = [
        ("rows_truncated", "of these cut to length"),
        ("exact_duplicates", "with the same tokens as an earlier row"),
        ("near_duplicates", "that nearly repeat an earlier row"),
        ("rows_with_special_tokens", "with a special token spelt in the content"),
        ("rows_with_unknown_characters", "with a character that the tokenizer has no token for"),
    ]
    out += [(ledger[key], phrase) for key, phrase in odd if ledger.get(key)]
    return [(f"{count:,}", phrase) for count, phrase in out]


def _split(name: str, figures: dict[str, Any]) -> Markup:
    lengths, targets = figures["length"], figures["target_length"]
    of = "p50 {p50:,}, p95 {p95:,}, longest {max:,}"
    return card(
        name,
        table(
            [
                ("samples", f"{figures['samples']:,}"),
                ("tokens", f"{figures['tokens']:,}"),
                ("trained", f"{figures['target_tokens']:,} ({figures['target_share']:.0%})"),
                ("tokens of a sample", of.format(**lengths)),
                ("trained of these", of.format(**targets)),
            ]
        ),
    )


def _packing(ledger: dict[str, Any]) -> Markup:
    found = ledger.get("packing")
    if not found:
        return Markup()
    return card(
        "packing",
        table(
            [
                ("rows", f"{found['rows']:,}"),
                ("tokens of a row", f"{found['capacity']:,}"),
                ("full", f"{found['fill']:.1%}"),
            ]
        ),
    )


def _histograms(splits: dict[str, Any]) -> Iterator[Markup]:
    for name, figures in splits.items():
        for key, title in (
            ("length", "tokens of a sample"),
            ("target_length", "trained tokens of a sample"),
        ):
            counted = figures[key].get("histogram") if figures["samples"] else None
            if counted:
                edges = counted["edges"]
                yield bars(
                    f"{name}: {title}",
                    [
                        Bar(edges[at], max(edges[at + 1] - (at + 2 < len(edges)), edges[at]), count)
                        for at, count in enumerate(counted["counts"])
                    ],
                )


def _examples(ledger: dict[str, Any]) -> Iterator[Markup]:
    aside = ledger.get("quarantined", [])[:_SHOWN]
    if aside:
        found = [
            (
                f"{each.get('file')}:{each.get('line', each.get('number'))}",
                each.get("reason"),
                str(each.get("row"))[:500],
            )
            for each in aside
        ]
        yield folded(f"Set aside: {len(found)} examples", table(found, ("where", "why", "row"), "long"))
    near = ledger.get("near_duplicate_examples", [])[:_SHOWN]
    if near:
        repeated = [(each["row"], each["repeats"], f"{each['jaccard']:.0%}") for each in near]
        yield folded("Near duplicates", table(repeated, ("row", "repeats", "in common"), "long"))
