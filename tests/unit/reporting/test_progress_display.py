"""The live display: content, width, and a clean terminal afterwards."""

import io
import os
import pty
import re
from typing import Any

import pytest
from rich.console import Console

from xft.reporting import progress_display
from xft.reporting.progress_display import ProgressDisplay, sparkline
from xft.utils import console

STEP: dict[str, Any] = {
    "split": "train",
    "loss": 1.5,
    "lr": 2e-4,
    "grad_norm": 0.5,
    "tokens_per_second": 2900.0,
    "target_tokens_per_second": 700.0,
    "epoch": 1.5,
    "eta_seconds": 75.0,
    "peak_memory_bytes": 2_300_000_000,
}


def answer(question: str, text: str, score: float | None) -> dict[str, Any]:
    return {"question": question, "answer": text, "score": score}


def screen(width: int, height: int = 24) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)


def shown(view: ProgressDisplay, on: Console) -> str:
    with on.capture() as captured:
        on.print(view.draw())
    return re.sub(r"\033\[[\d;]*m", "", captured.get())


@pytest.mark.parametrize("width", [50, 80, 200])
def test_display_fits_the_terminal(width: int) -> None:
    on = screen(width)
    view = ProgressDisplay("runs/[bold]mine", 200, 3.0, on)
    assert "step 0/200" in shown(view, on)
    view.record({"step": 0, "split": "val", "loss": 4.0})
    for step, loss in enumerate((3.0, 2.0, 1.5), 98):
        view.record({**STEP, "step": step, "loss": loss})
    view.record({"step": 100, "split": "val", "loss": 2.5})
    view.generations(
        100,
        [answer(f"question {at} {'long ' * 40}", f"answer {at} {'word ' * 40}", at % 2) for at in range(9)],
    )
    view.record({"step": 100, "split": "generation", "score": 4.0, "num_scored": 9})
    text = shown(view, on)
    lines = text.splitlines()
    assert len(lines) <= 16
    assert max(map(len, lines)) < width
    assert "runs/[bold]mine" in text
    for wanted in ("step 100/200", "1.5000", "2.5000", "4 of 9", "question 0", "answer 1"):
        assert wanted in text, wanted
    if width >= 80:
        for wanted in ("50%", "ETA", "best 2.5000 at step 100", "2,900 tok/s (700 target tok/s)", "2.3 GB"):
            assert wanted in text, wanted


@pytest.mark.parametrize("width", [50, 80, 120])
def test_best_value_is_not_split_over_lines(width: int) -> None:
    on = screen(width)
    view = ProgressDisplay("run", 200, 3.0, on)
    for step in range(1, 40):
        view.record({**STEP, "step": step, "loss": 3.0 / step})
        view.record({"step": step, "split": "val", "loss": 4.0 / step})
    lines = shown(view, on).splitlines()
    assert [line for line in lines if "best 0.1026 at step 39" in line]
    assert len({len(line) for line in lines}) == 1


def test_notebook_gets_lines_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-color")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.fileno", lambda: 1)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((80, 24)))
    assert progress_display.is_supported()
    monkeypatch.setenv("JPY_PARENT_PID", "7")
    assert not progress_display.is_supported()


def test_hostile_answer_stays_text() -> None:
    on = screen(120)
    view = ProgressDisplay("run", 10, 1.0, on)
    view.generations(5, [answer("\033]0;title\007?", "[red]\033[2J\x9b2J[/red]", None)])
    with on.capture() as captured:
        on.print(view.draw())
    assert "[red]␛[2J" in captured.get()
    assert "\033]" not in captured.get()
    assert "\033[2J" not in captured.get()
    assert "\x9b" not in captured.get()


def test_skipped_step_keeps_the_last_loss() -> None:
    on = screen(80)
    view = ProgressDisplay("run", 10, 1.0, on)
    view.record({**STEP, "step": 1})
    view.record({**STEP, "step": 2, "loss": float("nan"), "grad_norm": float("nan")})
    assert "loss 1.5000" in shown(view, on)


def test_close_removes_the_panel_and_prints_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(console, "info", printed.append)
    on = screen(80)
    with ProgressDisplay("run", 10, 1.0, on) as view:
        view.record({**STEP, "step": 9, "loss": 3.0})
        view.record({**STEP, "step": 10})
        console.signal_safe_notice("interrupted")
        assert "interrupted" in shown(view, on)
    view.close()
    assert printed[0] == "interrupted"
    assert printed[1].startswith("finished  10 steps in ")
    assert printed[1].endswith(": loss 3.0000 → 1.5000")
    assert len(printed) == 2
    assert console.NOTICE_SINKS == []
    written = on.file.getvalue()  # type: ignore[attr-defined]
    assert written.count("\033[?25l") == written.count("\033[?25h") == 1  # the cursor is back


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([1.0], ""),
        ([1.0, 1.0], "▁▁"),
        ([0.0, 4.0, 8.0], "▁▅█"),
        ([1.0] * 50 + [2.0] * 50, "▁▁▁▁████"),
    ],
)
def test_sparkline_scales_to_its_values(values: list[float], line: str) -> None:
    assert sparkline(values, 8) == line


@pytest.mark.parametrize(
    ("term", "lines", "columns", "wanted"),
    [
        ("xterm-256color", 24, 80, True),
        ("dumb", 24, 80, False),
        ("xterm", 10, 80, False),
        ("xterm", 24, 40, False),
    ],
)
def test_is_supported_needs_a_capable_terminal(
    term: str, lines: int, columns: int, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import struct
    import termios

    monkeypatch.setenv("TERM", term)
    assert not progress_display.is_supported()  # the output of the tests is not a terminal
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    with os.fdopen(follower, "w") as terminal, os.fdopen(leader, "rb"):
        monkeypatch.setattr("sys.stdout", terminal)
        assert progress_display.is_supported() is wanted
        monkeypatch.undo()
