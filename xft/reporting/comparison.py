"""Write a page that compares runs: figures, config differences, charts and answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from xft.errors import ConfigError
from xft.reporting.charts import NUM_COLORS, Chart, Series, layout_chart, smooth
from xft.reporting.generations_table import Answer, make_answer
from xft.reporting.html import render, write_page
from xft.reporting.run_folder import RunFolder, read_run
from xft.reporting.run_report import GENERATOR, KeyFigure, drop_missing, key_figures, smoothing_span
from xft.utils.generation_records import group_by_prompt, title_of

Cell = TypeVar("Cell")
CHARTS = (
    ("Training loss", "train", "loss", ""),
    ("Validation loss", "val", "loss", ""),
    ("Validation accuracy", "val", "accuracy", ""),
    ("Sample question score", "generation", "score", ""),
    ("Learning rate", "train", "lr", ""),
    ("Gradient norm before clipping", "train", "grad_norm", ""),
    ("Throughput", "train", "tokens_per_second", "tokens/s"),
    ("Peak memory", "train", "peak_memory_bytes", "bytes"),
)
"""Title, split, metric and unit of each chart."""


@dataclass(frozen=True)
class Row(Generic[Cell]):
    """Name and one value per run; ``None`` for a run without it."""

    name: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class PromptRow:
    """A sample question, with the names of its images, and the last answer of each run; ``None`` for a run without it."""

    question: str
    reference: str | None
    answers: tuple[Answer | None, ...]


def write_comparison(folders: Sequence[str | Path], target: str | Path) -> Path:
    """Write a page that compares runs.

    Args:
        folders: of the runs, which may be unfinished.
        target: path of the page.

    Raises:
        ConfigError: a folder is not a run folder, there are too few or too many folders, or the page
            cannot be written.
    """
    if not 2 <= len(folders) <= NUM_COLORS:
        raise ConfigError(
            key="compare", got=len(folders), expected=f"2 to {NUM_COLORS} run folders", fix=""
        )
    runs = [read_run(folder) for folder in folders]
    return write_page(Path(target), render_comparison(runs), GENERATOR)


def render_comparison(runs: Sequence[RunFolder]) -> str:
    """Return the page."""
    names = _names(runs)
    return render(
        "comparison.html.j2",
        generator=GENERATOR,
        title=f"{len(runs)} runs",
        names=names,
        runs=runs,
        figures=_figure_rows(runs),
        configs=_config_rows(runs),
        charts=_charts(runs, names),
        prompts=_prompt_rows(runs),
    )


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """Return the names of the folders, or their paths if names repeat."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _figure_rows(runs: Sequence[RunFolder]) -> list[Row[KeyFigure]]:
    figures = [{figure.name: figure for figure in key_figures(run)} for run in runs]
    names = dict.fromkeys(name for by_name in figures for name in by_name)
    return [Row(name, tuple(by_name.get(name) for by_name in figures)) for name in names]


def _config_rows(runs: Sequence[RunFolder]) -> list[Row[str]]:
    configs = [run.config() for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = [Row(key, tuple(config.get(key) for config in configs)) for key in keys]
    return [row for row in rows if len(set(row.cells)) > 1]


def _charts(runs: Sequence[RunFolder], names: Sequence[str]) -> list[Chart]:
    charts = []
    for title, split, metric, unit in CHARTS:
        lines = []
        for slot, (run, name) in enumerate(zip(runs, names, strict=True)):
            points = run.points(split, metric)
            if split == "train" and metric != "lr":
                points = smooth(points, smoothing_span(drop_missing(points)))
            lines.append(Series(name, points, slot, dots=split != "train"))
        charts.append(layout_chart(title, lines, unit))
    return [chart for chart in charts if chart is not None]


def _prompt_rows(runs: Sequence[RunFolder]) -> list[PromptRow]:
    """Return the last answer of each run to each question."""
    prompts = [group_by_prompt(run.generations) for run in runs]
    rows = []
    for key in dict.fromkeys(key for by_key in prompts for key in by_key):
        histories = [by_key.get(key) for by_key in prompts]
        reference = next((records[0].get("reference") for records in histories if records), None)
        answers = tuple(make_answer(records[-1]) if records else None for records in histories)
        _, question, images, _ = key
        rows.append(PromptRow(title_of(question, images), reference, answers))
    return rows
