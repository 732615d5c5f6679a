"""Live terminal display of a run: progress, metrics and the latest answers."""

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from xft.loggers import Logger
from xft.utils import console
from xft.utils.console import format_duration, format_score
from xft.utils.generation_records import title_of

MIN_COLUMNS, MIN_LINES = 50, 16
"""Smaller terminals get plain log lines."""
REFRESH_HZ = 2
FRAME = 7
"""Columns that the frame of the panel takes, and those to its right."""
NOTEBOOK = "JPY_PARENT_PID"
"""Environment variable of processes that a notebook starts."""
_SPARKLINE = "▁▂▃▄▅▆▇█"
_MAX_VALUES = 4000


def is_supported() -> bool:
    """Whether stdout is a terminal that supports the display.

    A notebook gives its ``!`` commands a terminal, but cannot move the cursor up: every frame would stay.
    """
    if (
        os.environ.get(NOTEBOOK)
        or not sys.stdout.isatty()
        or os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    ):
        return False
    size = os.get_terminal_size(sys.stdout.fileno())
    return size.columns >= MIN_COLUMNS and size.lines >= MIN_LINES


class ProgressDisplay(Logger):
    """Panel at the bottom of the terminal; log lines scroll above it. It receives records as loggers do.

    Args:
        name: of the run.
        num_steps: of the run.
        epochs: of the run.
        screen: console to draw on; stdout by default, without color if ``NO_COLOR`` is set.
    """

    def __init__(self, name: str, num_steps: int, epochs: float, screen: Console | None = None) -> None:
        self._name, self._num_steps, self._epochs = name, num_steps, epochs
        self._last: dict[str, Any] = {}
        self._started_at = self._updated_at = time.monotonic()
        self._metric = "loss"
        self._values: list[float] = []
        self._val_values: list[tuple[int, float]] = []
        self._generations: list[Mapping[str, Any]] = []
        self._generations_step = 0
        self._score = ""
        self._notices: list[str] = []
        self._screen = screen if screen is not None else Console()
        columns = (TextColumn("[bold]{task.description}"), BarColumn(None), TaskProgressColumn())
        eta = TextColumn("{task.fields[eta]}")
        self._progress = Progress(*columns, eta, console=self._screen, auto_refresh=False, expand=True)
        self._task = self._progress.add_task(f"step 0/{num_steps}", total=num_steps, eta="")
        self._live = Live(
            get_renderable=self.draw,
            console=self._screen,
            refresh_per_second=REFRESH_HZ,
            transient=True,
        )

    def __enter__(self) -> "ProgressDisplay":
        console.NOTICE_SINKS.append(self._notices)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, values: Mapping[str, Any]) -> None:
        """Update the display with the metrics of a step, a validation or the sample questions."""
        if values["split"] == "train":
            self._last, self._updated_at = dict(values), time.monotonic()
            # The loss of reinforcement learning says nothing; its reward does.
            self._metric = "reward" if "reward" in values else "loss"
            if math.isfinite(values[self._metric]):  # NaN in a skipped step
                self._values = [*self._values[-_MAX_VALUES:], values[self._metric]]
        elif values["split"] == "val" and (metric := "reward" if "reward" in values else "loss") in values:
            self._val_values.append((values["step"], values[metric]))
        elif values["split"] == "generation":
            self._score = f": {format_score(values['score'])} of {values['num_scored']:g}"

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show the latest answers; their score is recorded later."""
        self._generations, self._generations_step, self._score = list(rows), step, ""

    def close(self) -> None:
        """Remove the panel and print a one-line summary."""
        if self._live.is_started:
            self._live.stop()
            console.NOTICE_SINKS.remove(self._notices)
            for notice in self._notices:
                console.info(notice)
            if self._last:
                console.info(self._summary())

    def draw(self) -> RenderableType:
        """Return the panel in its current state."""
        self._update_progress()
        parts: list[RenderableType] = [self._progress, *self._metric_line(), *self._metrics_lines()]
        parts += [_one_line(notice, "yellow") for notice in self._notices]
        if self._generations:
            title = f"sample questions at step {self._generations_step}{self._score}"
            parts += [Text(title, style="dim"), self._answers()]
        # Two free columns keep the echo of Ctrl-C ("^C") from wrapping to a new line.
        width = self._screen.width - len("^C") - 1
        return Panel(
            Group(*parts), title=_one_line(self._name), title_align="left", border_style="dim", width=width
        )

    def _update_progress(self) -> None:
        step = self._last.get("step", 0)
        text, now = f"step {step}/{self._num_steps}", time.monotonic()
        if self._last:
            text += f"  epoch {self._last['epoch']:.2f}/{self._epochs:.3g}"
            remaining = max(self._last["eta_seconds"] - (now - self._updated_at), 0)
            eta = f"ETA {format_duration(remaining)}"
        else:
            eta = f"started {format_duration(now - self._started_at)} ago"
        self._progress.update(self._task, completed=step, description=text, eta=eta)

    def _metric_line(self) -> list[RenderableType]:
        cells: list[Text] = []
        best = Text()
        if self._values:
            trend, last = sparkline(self._values, 16), f"{self._values[-1]:.4f} "
            cells.append(Text.assemble(f"{self._metric} ", (last, "bold"), (trend, "cyan")))
        if self._val_values:
            choose = max if self._metric == "reward" else min
            step, value = choose(self._val_values, key=lambda point: point[1])
            trend = sparkline([loss for _, loss in self._val_values], 8)
            best = Text(f"best {value:.4f} at step {step}", "dim")
            last = f"{self._val_values[-1][1]:.4f} "
            cells.append(Text.assemble(f"val {self._metric} ", (last, "bold"), (trend, "magenta")))
        together = Text("  ").join([*cells, best] if best else cells)
        if together.cell_len <= self._screen.width - FRAME:
            return [together] if cells else []
        return [Text("  ", no_wrap=True, overflow="ellipsis").join(cells), *([best] if best else [])]

    def _metrics_lines(self) -> list[RenderableType]:
        if not self._last:
            return []
        last = self._last
        memory = console.format_bytes(last["peak_memory_bytes"])
        rate, target_rate = last["tokens_per_second"], last["target_tokens_per_second"]
        sampled = []
        if "reward" in last:
            sampled.append(
                f"reward std {last['reward_std']:.3f}  groups without spread {last['frac_reward_zero_std']:.0%}"
            )
        if "train_seconds" in last:
            sampled += [
                f"length {last['completions/mean_length']:.0f}  stopped {last['completions/stopped']:.0%}  "
                f"entropy {last['entropy']:.2f}",
                f"sampling {last.get('rollout_seconds', 0.0):.1f} s, training {last['train_seconds']:.1f} s",
            ]
        lines = (
            *sampled,
            f"lr {last['lr']:.2e}  grad_norm {last['grad_norm']:.2f}  memory {memory}",
            f"{rate:,.0f} tok/s ({target_rate:,.0f} target tok/s)",
        )
        return [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]

    def _answers(self) -> RenderableType:
        """Return the latest answers, one line each, as many as fit."""
        rows = Table.grid(padding=(0, 1), expand=True)
        rows.add_column(width=1)
        rows.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
        rows.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
        num_rows = max(self._screen.size.height // 3 - 2, 2)
        for row in self._generations[:num_rows]:
            rows.add_row(
                _score_mark(row["score"]),
                _one_line(title_of(row["question"], row.get("images", ())), "dim"),
                _one_line(row["answer"]),
            )
        if len(self._generations) > num_rows:
            rows.add_row("", Text(f"… and {len(self._generations) - num_rows} more", style="dim"), "")
        return rows

    def _summary(self) -> str:
        text = f"{self._last['step']} steps in {format_duration(time.monotonic() - self._started_at)}"
        if self._values:
            text += f": {self._metric} {self._values[0]:.4f} → {self._values[-1]:.4f}"
        if self._val_values:
            text += f", val {self._metric} {self._val_values[0][1]:.4f} → {self._val_values[-1][1]:.4f}"
        return f"finished  {text}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as blocks scaled from minimum to maximum; each block is a mean of neighbors."""
    if len(values) < 2:
        return ""
    count = min(width, len(values))
    ends = [round(index * len(values) / count) for index in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(ends)]
    low, high = min(means), max(means)
    scale = len(_SPARKLINE) / ((high - low) or 1.0)
    return "".join(_SPARKLINE[min(int((mean - low) * scale), len(_SPARKLINE) - 1)] for mean in means)


def _score_mark(score: float | None) -> Text:
    if score is None:
        return Text("·", style="dim")
    return Text("✓", "green") if score >= 1 else Text("✗", "red") if score <= 0 else Text("~", "yellow")


def _one_line(text: str, style: str = "") -> Text:
    """Return untrusted text as one line without control characters or rich markup."""
    return Text(console.escape_control_chars(" ".join(text.split())), style)
