"""``report.html``: what a run was, how it went, what it answers, and how to use what came of it."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xft.errors import ConfigError
from xft.reporting import generations_table
from xft.reporting.charts import Point, Series, chart, number, smooth
from xft.reporting.data_section import data
from xft.reporting.html import Markup, card, folded, joined, page, section, table, text
from xft.reporting.run_folder import RunFolder, read_run
from xft.reporting.usage_snippets import usage
from xft.utils.console import format_bytes

REPORT = "report.html"
MARK = "xft report"
_CHARTED = frozenset(
    {
        "loss",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "target_tokens_per_second",
        "peak_memory_bytes",
        "epoch",
    }
)
_UNCHARTED = frozenset(
    {"tokens", "target_tokens", "eta_seconds", "skipped", "perplexity", "score", "num_scored"}
)
_SMOOTHED = 25
"""A line of fewer points is shown as it is."""


def write_report(folder: str | Path, target: str | Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        folder: of the run; it may be unfinished.
        target: the page; ``report.html`` in the run folder where nothing is said.

    Raises:
        ConfigError: it is no run folder, or the page cannot be written.
    """
    run = read_run(folder)
    return write(Path(target) if target is not None else run.path / REPORT, report(run), MARK)


def write(path: Path, written: str, mark: str) -> Path:
    """Write a page: whole, or not at all.

    Args:
        path: of the page.
        written: the page.
        mark: what writes it; a file that something else wrote is not written over.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        if (
            path.exists()
            and f'content="{mark}"' not in path.read_text(encoding="utf-8", errors="replace")[:1000]
        ):
            raise ConfigError(f"{path} exists and is no page of {mark}; choose another name, or delete it")
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as room:
            page_file = Path(room) / "page"
            page_file.write_text(written, encoding="utf-8")
            page_file.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror})") from error
    return path


def report(run: RunFolder) -> str:
    """The page."""
    asked = run.asked()
    questions = joined(
        [
            generations_table.scores(asked),
            *(generations_table.question(at, each) for at, each in enumerate(asked, 1)),
        ]
    )
    content = joined(
        [
            Markup(f'<div class="cards facts">{joined(_facts(run))}</div>'),
            section("warnings", "Warnings", _list(run.warnings)),
            section("curves", "Curves", framed("figures", curves(run))),
            section("questions", "Sample questions", questions),
            section("use", "Use it", usage(run)),
            section("data", "Data", data(run.ledger)),
            section("run", "What was run", _setting(run)),
        ]
    )
    return page(run.name, f"{_state(run)}. Written by xft", content, MARK)


def framed(kind: str, content: Markup) -> Markup:
    """Content in a frame for the style; nothing where there is nothing in it."""
    return Markup(f'<div class="{kind}">{content}</div>') if content else Markup()


def _state(run: RunFolder) -> str:
    planned = run.num_steps
    of = f" of {planned:,}" if planned is not None else ""
    if run.finished:
        early = planned is not None and run.last_step < planned
        return f"Finished{' early' if early else ''} after {run.last_step:,}{of if early else ''} steps"
    return f"Not finished: at step {run.last_step:,}{of}"


def _list(lines: Sequence[str]) -> Markup:
    if not lines:
        return Markup()
    return Markup(f'<ul class="warnings">{joined(Markup(f"<li>{text(each)}</li>") for each in lines)}</ul>')


def _facts(run: RunFolder) -> Iterator[Markup]:
    for name, value, more in facts(run):
        yield Markup(
            f'<div class="card fact"><span class="quiet">{text(name)}</span><b>{text(value)}</b>'
            f'<span class="quiet">{text(more)}</span></div>'
        )


def facts(run: RunFolder) -> Iterator[tuple[str, str, str]]:
    """The few figures that a person looks at first: name, value, and what belongs to it."""
    loss = present(run.points("train", "loss"))
    if loss:
        yield (
            "training loss",
            number(smooth(loss, span(loss))[-1][1] or 0.0),
            f"from {number(loss[0][1] or 0.0)}",
        )
    val = present(run.points("val", "loss"))
    if val:
        step, best = min(val, key=lambda each: each[1] or 0.0)
        yield (
            "validation loss",
            number(val[-1][1] or 0.0),
            f"from {number(val[0][1] or 0.0)}; best {number(best or 0.0)} at step {step:,.0f}",
        )
    score = present(run.points("generation", "score"))
    scored = present(run.points("generation", "num_scored"))
    if score and scored:
        yield "sample questions", f"{score[-1][1]:g} of {scored[-1][1]:g}", f"{score[0][1]:g} before"
    rates = [value for _, value in run.points("train", "tokens_per_second") if value is not None]
    if rates:
        seconds = sum(
            each["tokens"] / each["tokens_per_second"]
            for each in run.metrics
            if each["split"] == "train" and each.get("tokens") and each.get("tokens_per_second")
        )
        total = sum(each.get("tokens") or 0 for each in run.metrics if each["split"] == "train")
        yield (
            "tokens a second",
            number(total / seconds if seconds else rates[-1]),
            f"{total:,} tokens in all",
        )
    memory = [value for _, value in run.points("train", "peak_memory_bytes") if value is not None]
    if memory:
        yield "memory", format_bytes(max(memory)), "at most"
    left_out = sum(1 for each in run.metrics if each.get("skipped"))
    if left_out:
        yield "steps left out", f"{left_out:,}", "loss or gradient was not finite"


def present(points: Iterable[Point]) -> list[Point]:
    """The points that have a figure."""
    return [each for each in points if each[1] is not None]


def span(points: Sequence[Point]) -> float:
    """Over how many points a line is smoothed."""
    return max(len(points) / 30, 1) if len(points) > _SMOOTHED else 1


def loss_lines(points: Sequence[Point], name: str, slot: int) -> list[Series]:
    """A noisy line: as it is, faint, and smoothed before it."""
    if len(points) <= _SMOOTHED:
        return [Series(name, points, slot)]
    return [Series(name, points, slot, faint=True), Series(name, smooth(points, span(points)), slot)]


def curves(run: RunFolder) -> Markup:
    """All curves of a run."""

    def of(split: str, name: str) -> list[Point]:
        return run.points(split, name)

    drawn = [
        chart(
            "Loss",
            [
                *loss_lines(of("train", "loss"), "training", 0),
                Series("validation", of("val", "loss"), 1, dots=True),
            ],
        ),
        chart(
            "Perplexity of the validation", [Series("perplexity", of("val", "perplexity"), 1, dots=True)]
        ),
    ]
    more = dict.fromkeys([*run.figures("train"), *run.figures("val")])
    for name in more:
        if name not in _CHARTED | _UNCHARTED:
            lines = loss_lines(of("train", name), "training", 0)
            drawn.append(chart(name, [*lines, Series("validation", of("val", name), 1, dots=True)]))
    score = of("generation", "score")
    drawn += [
        # One asking makes no line, and the table of the questions says it.
        chart(
            "Score of the sample questions",
            [Series("score", score, 2, dots=True)] if len(score) > 1 else [],
        ),
        chart("Learning rate", [Series("lr", of("train", "lr"), 3)]),
        chart(
            "Norm of the gradient, before clipping", loss_lines(of("train", "grad_norm"), "grad_norm", 4)
        ),
        chart(
            "Throughput",
            [
                *loss_lines(of("train", "tokens_per_second"), "all tokens", 0),
                *loss_lines(of("train", "target_tokens_per_second"), "trained tokens", 2),
            ],
            "tokens/s",
        ),
        chart("Memory, at most so far", [Series("memory", of("train", "peak_memory_bytes"), 5)], "bytes"),
    ]
    return joined(drawn)


def _setting(run: RunFolder) -> Markup:
    parts = []
    for title, values in run.environment.items():
        if isinstance(values, dict):
            rows = [(name, _said(value)) for name, value in values.items()]
            parts.append(card(title, table(rows)))
    shown = Markup(f'<div class="cards">{joined(parts)}</div>') if parts else Markup()
    config = folded("config.py, as it was resolved", Markup(f"<pre>{text(run.config_text)}</pre>"))
    return joined([shown, config if run.config_text else ""])


def _said(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "yes" if value else "–"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
