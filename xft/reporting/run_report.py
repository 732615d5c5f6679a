"""Write ``report.html``: metrics, sample questions, usage, data and config of a run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from xft.reporting.charts import Chart, Point, Series, format_number, layout_chart, smooth
from xft.reporting.data_summary import summarize_report
from xft.reporting.generations_table import prompt_history, score_table
from xft.reporting.html import render, write_page
from xft.reporting.outcome import outcome_of, verdict
from xft.reporting.rollout_samples import select_rollouts
from xft.reporting.run_folder import RunFolder, read_run
from xft.reporting.usage_snippets import usage_snippets
from xft.utils.console import format_bytes, format_duration, format_score

REPORT = "report.html"
GENERATOR = "xft report"
_NAMED_CHARTS = frozenset(
    {
        "reward",
        "loss",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "target_tokens_per_second",
        "peak_memory_bytes",
        "epoch",
    }
)
_NOT_CHARTED = frozenset(
    {"tokens", "target_tokens", "eta_seconds", "skipped", "perplexity", "score", "num_scored"}
)
_MIN_SMOOTHED = 25
"""Series up to this length are not smoothed."""


@dataclass(frozen=True)
class KeyFigure:
    """Name and value of a figure at the top of the page, with a detail below."""

    name: str
    value: str
    detail: str


def write_report(folder: str | Path, target: str | Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        folder: of the run, which may be unfinished.
        target: path of the page; ``report.html`` in the run folder by default.

    Raises:
        ConfigError: the folder is not a run folder, or the page cannot be written.
    """
    run = read_run(folder)
    return write_page(
        Path(target) if target is not None else run.path / REPORT, render_report(run), GENERATOR
    )


def render_report(run: RunFolder) -> str:
    """Return the page of a run."""
    prompts = run.prompts()
    environment = {
        title: {name: _format_value(value) for name, value in values.items()}
        for title, values in run.environment.items()
        if isinstance(values, dict)
    }
    return render(
        "run_report.html.j2",
        generator=GENERATOR,
        title=run.name,
        state=_state(run),
        verdict=verdict(outcome_of(run)).capitalize(),
        about=_about(run),
        figures=list(key_figures(run)),
        warnings=run.warnings,
        charts=charts(run),
        scores=score_table(prompts),
        prompts=[
            prompt_history(number, records, run.image_folder) for number, records in enumerate(prompts, 1)
        ],
        rollouts=select_rollouts(run.rollouts),
        snippets=usage_snippets(run),
        data=_data_section(run.data_report),
        environment=environment,
        config_text=run.config_text,
    )


def _about(run: RunFolder) -> str:
    """Return model, data, date and duration of a run, as far as they are known."""
    config, section = run.config(), run.environment.get("run")
    started = str(section.get("started_at", "")) if isinstance(section, dict) else ""
    seconds = outcome_of(run).seconds
    parts = (
        config.get("model.path", ""),
        config.get("data.path", ""),
        started[:16].replace("T", " "),
        "" if seconds is None else format_duration(seconds),
    )
    return " · ".join(part for part in parts if part) or "No config"


def _data_section(report: Mapping[str, Any]) -> Markup:
    """Render ``data_report.json``, or a note if another version of xft has written it in another format."""
    try:
        summary = summarize_report(report) if report else None
        return Markup(render("_run_data.html.j2", report=report, summary=summary))
    except (KeyError, TypeError, ValueError, AttributeError):
        return Markup(render("_run_data.html.j2", report=report, summary=None))


def _state(run: RunFolder) -> str:
    planned = run.num_steps
    total = f" of {planned:,}" if planned is not None else ""
    if run.finished:
        early = planned is not None and run.last_step < planned
        return f"Finished{' early' if early else ''} after {run.last_step:,}{total if early else ''} steps"
    return f"Not finished: at step {run.last_step:,}{total}"


def key_figures(run: RunFolder) -> Iterator[KeyFigure]:
    """Return the figures at the top of the page."""
    reward = drop_missing(run.points("train", "reward"))
    if reward:
        yield KeyFigure(
            "reward", format_number(reward[-1][1] or 0.0), f"from {format_number(reward[0][1] or 0.0)}"
        )
    loss = drop_missing(run.points("train", "loss"))
    # The loss of reinforcement learning is near 0 by construction.
    if loss and not reward:
        last = smooth(loss, smoothing_span(loss))[-1][1] or 0.0
        yield KeyFigure("training loss", format_number(last), f"from {format_number(loss[0][1] or 0.0)}")
    val = drop_missing(run.points("val", "loss"))
    if val:
        step, best = min(val, key=lambda point: point[1] or 0.0)
        yield KeyFigure(
            "validation loss",
            format_number(val[-1][1] or 0.0),
            f"from {format_number(val[0][1] or 0.0)}; best {format_number(best or 0.0)} at step {step:,.0f}",
        )
    score = drop_missing(run.points("generation", "score"))
    total = drop_missing(run.points("generation", "num_scored"))
    if score and total:
        value = f"{format_score(score[-1][1] or 0.0)} of {total[-1][1]:g}"
        yield KeyFigure("sample questions", value, f"{format_score(score[0][1] or 0.0)} before")
    yield from _resource_figures(run)


def _resource_figures(run: RunFolder) -> Iterator[KeyFigure]:
    rates = drop_missing(run.points("train", "tokens_per_second"))
    if rates:
        counts = dict(run.points("train", "tokens"))
        seconds = sum((counts.get(step) or 0.0) / rate for step, rate in rates if rate)
        tokens = sum(count or 0.0 for count in counts.values())
        rate = tokens / seconds if seconds else rates[-1][1] or 0.0
        yield KeyFigure("tokens/s", format_number(rate), f"{tokens:,.0f} tokens in total")
    memory = [value for _, value in run.points("train", "peak_memory_bytes") if value is not None]
    if memory:
        yield KeyFigure("peak memory", format_bytes(max(memory)), "")
    skipped = sum(1 for record in run.metrics if record.get("skipped"))
    if skipped:
        yield KeyFigure("skipped steps", f"{skipped:,}", "non-finite loss or gradient norm")


def drop_missing(points: Iterable[Point]) -> list[Point]:
    """Return the points that have a value."""
    return [point for point in points if point[1] is not None]


def smoothing_span(points: Sequence[Point]) -> float:
    """Return the number of points that a series of this length is smoothed over."""
    return max(len(points) / 30, 1) if len(points) > _MIN_SMOOTHED else 1


def _noisy_series(points: Sequence[Point], name: str, slot: int) -> list[Series]:
    """Return a series as is, or its smoothed version in front of the faint original."""
    if len(points) <= _MIN_SMOOTHED:
        return [Series(name, points, slot)]
    return [
        Series(name, points, slot, faint=True),
        Series(name, smooth(points, smoothing_span(points)), slot),
    ]


def charts(run: RunFolder) -> list[Chart]:
    """Return the charts of a run: loss first, then all other metrics."""

    def noisy(name: str, label: str, slot: int) -> list[Series]:
        return _noisy_series(run.points("train", name), label, slot)

    def validation(name: str, label: str = "validation") -> Series:
        return Series(label, run.points("val", name), 1, dots=True)

    score = run.points("generation", "score")
    names = dict.fromkeys([*run.metric_names("train"), *run.metric_names("val")])
    laid_out = [
        layout_chart("Reward", [*noisy("reward", "training", 0), validation("reward")]),
        layout_chart("Loss", [*noisy("loss", "training", 0), validation("loss")]),
        layout_chart("Validation perplexity", [validation("perplexity", "perplexity")]),
        *(
            layout_chart(name, [*noisy(name, "training", 0), validation(name)])
            for name in names
            if name not in _NAMED_CHARTS | _NOT_CHARTED
        ),
        # A single evaluation makes no line; the table of the questions shows it.
        layout_chart("Sample question score", [Series("score", score, 2, dots=True)] if score[1:] else []),
        layout_chart("Learning rate", [Series("lr", run.points("train", "lr"), 3)]),
        layout_chart("Gradient norm before clipping", noisy("grad_norm", "grad_norm", 4)),
        layout_chart(
            "Throughput",
            [
                *noisy("tokens_per_second", "all tokens", 0),
                *noisy("target_tokens_per_second", "target tokens", 2),
            ],
            "tokens/s",
        ),
        layout_chart(
            "Peak memory", [Series("memory", run.points("train", "peak_memory_bytes"), 5)], "bytes"
        ),
    ]
    return [chart for chart in laid_out if chart is not None]


def _format_value(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "yes" if value else "–"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
