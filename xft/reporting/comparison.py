"""Runs side by side in one page: figures, what differs in their configs, curves, answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xft.errors import ConfigError
from xft.reporting import generations_table
from xft.reporting.charts import COLOURS, Series, chart, smooth
from xft.reporting.html import Markup, joined, page, section, table, text
from xft.reporting.run_folder import RunFolder, read_run
from xft.reporting.run_report import MARK, facts, framed, present, span, write

_ABSENT = Markup('<span class="quiet">–</span>')


def write_comparison(folders: Sequence[str | Path], target: str | Path) -> Path:
    """Write a page that shows runs side by side.

    Args:
        folders: of the runs, which may be unfinished.
        target: the page.

    Raises:
        ConfigError: one is no run folder, there are too few or too many of them, or the page cannot be
            written.
    """
    if not 2 <= len(folders) <= COLOURS:
        raise ConfigError(f"compare: got {len(folders)} run folders, expected 2 to {COLOURS}")
    runs = [read_run(each) for each in folders]
    return write(Path(target), comparison(runs), MARK)


def comparison(runs: Sequence[RunFolder]) -> str:
    """The page."""
    names = _names(runs)
    content = joined(
        [
            section("figures", "Figures", framed("wide", _figures(runs, names))),
            section("configs", "What differs", framed("wide", _configs(runs, names))),
            section("curves", "Curves", framed("figures", _curves(runs, names))),
            section("questions", "Sample questions", framed("wide", _answers(runs, names))),
        ]
    )
    return page(f"{len(runs)} runs", f"{', '.join(names)}. Written by xft", content, MARK)


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """The names of the folders; the whole paths where these are not enough to tell them apart."""
    names = [each.name for each in runs]
    return names if len(set(names)) == len(names) else [str(each.path) for each in runs]


def _heads(names: Sequence[str]) -> list[Markup]:
    return [Markup(f'<i class="key s{at}"></i>{text(name)}') for at, name in enumerate(names)]


def _figures(runs: Sequence[RunFolder], names: Sequence[str]) -> Markup:
    found = [{name: (value, more) for name, value, more in facts(each)} for each in runs]
    known = dict.fromkeys(name for each in found for name in each)
    rows: list[list[Any]] = [
        ["steps", *(f"{each.last_step:,}{'' if each.finished else ' (not finished)'}" for each in runs)]
    ]
    for name in known:
        cells = [
            Markup(f'<b>{text(each[name][0])}</b><br><span class="quiet">{text(each[name][1])}</span>')
            if name in each
            else _ABSENT
            for each in found
        ]
        rows.append([name, *cells])
    rows.append(["warnings", *(f"{len(each.warnings)}" for each in runs)])
    return table(rows, ["", *_heads(names)], "compared")


def _configs(runs: Sequence[RunFolder], names: Sequence[str]) -> Markup:
    configs = [each.config() for each in runs]
    keys = dict.fromkeys(key for each in configs for key in each)
    rows = [
        [key, *(each.get(key, _ABSENT) for each in configs)]
        for key in keys
        if len({each.get(key) for each in configs}) > 1
    ]
    if not rows:
        return Markup('<p class="quiet">Their configs are the same.</p>')
    return table(rows, ["key", *_heads(names)], "compared")


def _curves(runs: Sequence[RunFolder], names: Sequence[str]) -> Markup:
    drawn = []
    for title, split, figure, unit in (
        ("Training loss", "train", "loss", ""),
        ("Validation loss", "val", "loss", ""),
        ("Accuracy of the validation", "val", "accuracy", ""),
        ("Score of the sample questions", "generation", "score", ""),
        ("Learning rate", "train", "lr", ""),
        ("Norm of the gradient", "train", "grad_norm", ""),
        ("Throughput", "train", "tokens_per_second", "tokens/s"),
        ("Memory, at most so far", "train", "peak_memory_bytes", "bytes"),
    ):
        lines = []
        for slot, (run, name) in enumerate(zip(runs, names, strict=True)):
            points = run.points(split, figure)
            if split == "train" and figure != "lr":
                points = smooth(points, span(present(points)))
            lines.append(Series(name, points, slot, dots=split != "train"))
        drawn.append(chart(title, lines, unit))
    return joined(drawn)


def _answers(runs: Sequence[RunFolder], names: Sequence[str]) -> Markup:
    """The last answer of every run to every question."""
    asked = [{(each[0].get("system"), each[0]["question"]): each for each in run.asked()} for run in runs]
    questions = dict.fromkeys(key for each in asked for key in each)
    rows: list[list[Any]] = []
    for key in questions:
        reference = next((each[key][0].get("reference") for each in asked if key in each), None)
        wanted = (
            Markup(f'<br><span class="quiet">wanted: {text(reference)}</span>')
            if reference is not None
            else ""
        )
        cells: list[Any] = [joined([key[1], wanted])]
        for each in asked:
            if key not in each:
                cells.append(_ABSENT)
                continue
            last = each[key][-1]
            step = Markup(f'<span class="quiet"> step {last["step"]:,}</span>')
            cells.append(
                joined([generations_table.mark(last), step, generations_table.answer(last["answer"], last)])
            )
        rows.append(cells)
    return table(rows, ["question", *_heads(names)], "compared") if rows else Markup()
