"""The live view of a run on a terminal: where it stands, how it goes, and what it answers now."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xft.loggers import Logger
from xft.utils import console
from xft.utils.console import format_duration

LEAST_COLUMNS, LEAST_LINES = 50, 16
"""A smaller terminal gets plain lines."""
REFRESHES = 2
"""How often a second it is drawn."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_HISTORY = 4000


def is_wanted() -> bool:
    """Whether the output goes to a terminal that can be drawn on."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return False
    size = os.get_terminal_size(sys.stdout.fileno())
    return size.columns >= LEAST_COLUMNS and size.lines >= LEAST_LINES


class LiveView(Logger):
    """A few lines at the foot of the terminal that change while training goes on; what is said meanwhile
    stands above them. It receives what loggers receive.

    Args:
        name: of the run.
        num_steps: of the run.
        epochs: of the run.
        screen: where it is drawn; standard output where nothing is said.
    """

    def __init__(self, name: str, num_steps: int, epochs: float, screen: Console | None = None) -> None:
        self._name, self._num_steps, self._epochs = name, num_steps, epochs
        self._last: dict[str, Any] = {}
        self._heard = self._begun = time.monotonic()
        self._losses: list[float] = []
        self._vals: list[tuple[int, float]] = []
        self._asked: list[Mapping[str, Any]] = []
        self._asked_at = 0
        self._score = ""
        self._notices: list[str] = []
        self._screen = screen if screen is not None else Console()
        self._live = Live(
            get_renderable=self.draw,
            console=self._screen,
            refresh_per_second=REFRESHES,
            transient=True,
        )

    def __enter__(self) -> "LiveView":
        console.NOTICE_SINKS.append(self._notices)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, values: Mapping[str, Any]) -> None:
        """Take up the figures of a step, of a validation or of the sample questions."""
        if values["split"] == "train":
            self._last, self._heard = dict(values), time.monotonic()
            if values["loss"] == values["loss"]:  # not NaN: a step that was left out
                self._losses = [*self._losses[-_HISTORY:], values["loss"]]
        elif values["split"] == "val" and "loss" in values:
            self._vals.append((values["step"], values["loss"]))
        elif values["split"] == "generation":
            self._score = f": {values['score']:g} of {values['num_scored']:g}"

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take up the newest answers. Their score comes after them."""
        self._asked, self._asked_at, self._score = list(rows), step, ""

    def close(self) -> None:
        """Take the lines away, and say in one how it went."""
        if self._live.is_started:
            self._live.stop()
            console.NOTICE_SINKS.remove(self._notices)
            for each in self._notices:
                console.info(each)
            if self._last:
                console.info(self._summary())

    def draw(self) -> RenderableType:
        """The lines as they are now."""
        parts: list[RenderableType] = [self._progress(), *self._losses_line(), *self._figures()]
        parts += [Text(each, style="yellow") for each in self._notices]
        if self._asked:
            parts += [Text(f"sample questions at step {self._asked_at}{self._score}", style="dim")]
            parts += [self._answers()]
        # The echo of a Ctrl-C needs room behind the last line, or it begins a line of its own.
        width = self._screen.width - len("^C") - 1
        title = escape(self._name)
        return Panel(Group(*parts), title=title, title_align="left", border_style="dim", width=width)

    def _progress(self) -> RenderableType:
        step = self._last.get("step", 0)
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True, justify="right")
        if self._last:
            left = max(self._last["eta_seconds"] - (time.monotonic() - self._heard), 0)
            where = f"step {step}/{self._num_steps}  epoch {self._last['epoch']:.2f}/{self._epochs:.3g}"
            when = f"{step / self._num_steps:4.0%}  {format_duration(left)} left"
        else:
            where, when = (
                f"step 0/{self._num_steps}",
                f"begun {format_duration(time.monotonic() - self._begun)} ago",
            )
        row.add_row(Text(where, style="bold"), ProgressBar(total=self._num_steps, completed=step), when)
        return row

    def _losses_line(self) -> list[RenderableType]:
        row = Table.grid(padding=(0, 2))
        cells = []
        if self._losses:
            cells.append(
                Text.assemble(
                    "loss ", (f"{self._losses[-1]:.4f} ", "bold"), (sparkline(self._losses, 16), "cyan")
                )
            )
        if self._vals:
            best = min(self._vals, key=lambda each: each[1])
            line = sparkline([each for _, each in self._vals], 8)
            said = f"  best {best[1]:.4f} at step {best[0]}"
            cells.append(
                Text.assemble(
                    "validation ", (f"{self._vals[-1][1]:.4f} ", "bold"), (line, "magenta"), (said, "dim")
                )
            )
        if not cells:
            return []
        row.add_row(*cells)
        return [row]

    def _figures(self) -> list[RenderableType]:
        if not self._last:
            return []
        last = self._last
        said = [
            f"lr {last['lr']:.2e}",
            f"grad_norm {last['grad_norm']:.2f}",
            f"{last['tokens_per_second']:,.0f} tok/s, {last['target_tokens_per_second']:,.0f} trained",
            f"memory {console.format_bytes(last['peak_memory_bytes'])}",
        ]
        return [Text("   ".join(said), no_wrap=True, overflow="ellipsis")]

    def _answers(self) -> RenderableType:
        """As many of the newest answers as there is room for, a line each."""
        rows = Table.grid(padding=(0, 1), expand=True)
        rows.add_column(width=1)
        rows.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
        rows.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
        room = max(self._screen.size.height // 3 - 2, 2)
        for each in self._asked[:room]:
            rows.add_row(_sign(each["score"]), _plain(each["question"], "dim"), _plain(each["answer"]))
        if len(self._asked) > room:
            rows.add_row("", Text(f"… and {len(self._asked) - room} more", style="dim"), "")
        return rows

    def _summary(self) -> str:
        last = self._last
        said = f"{last['step']} steps, {format_duration(time.monotonic() - self._begun)}"
        if self._losses:
            said += f": loss {self._losses[0]:.4f} → {self._losses[-1]:.4f}"
        if self._vals:
            said += f", validation {self._vals[0][1]:.4f} → {self._vals[-1][1]:.4f}"
        return f"trained   {said}"


def sparkline(values: Sequence[float], width: int) -> str:
    """A line of blocks, from the least to the greatest value; each is the mean of its share of them."""
    if len(values) < 2:
        return ""
    count = min(width, len(values))
    ends = [round(at * len(values) / count) for at in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(ends)]
    low, high = min(means), max(means)
    spread = (high - low) or 1.0
    return "".join(
        _BLOCKS[min(int((each - low) / spread * len(_BLOCKS)), len(_BLOCKS) - 1)] for each in means
    )


def _sign(score: float | None) -> Text:
    if score is None:
        return Text("·", style="dim")
    return Text("✓", "green") if score >= 1 else Text("✗", "red") if score <= 0 else Text("~", "yellow")


def _plain(text: str, style: str = "") -> Text:
    """A stranger's text in one line, which commands neither the terminal nor the markup of rich."""
    return Text(console.escape_control_chars(" ".join(text.split())), style)
