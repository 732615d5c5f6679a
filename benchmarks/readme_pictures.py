"""Make the pictures of the README: the terminal during the demo run, and the report of that run.

    python benchmarks/readme_pictures.py           # trains the demo, some minutes; needs pyte and chromium

The first is what a terminal of 100 columns shows after two thirds of the steps, as SVG. The second is a screenshot.
"""

import argparse
import fcntl
import io
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pyte
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs" / "assets"
CONFIG = "smollm2_lora"
COLUMNS, LINES = 100, 34
PART = 2 / 3
"""Fraction of the steps after which the terminal is shown."""
QUIET_SECONDS = 0.1
"""A terminal that gets nothing for that long shows a whole frame."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WINDOW = "1000,860"
SVG = """\
<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
<rect fill="#1f1f1f" width="{terminal_width}" height="{terminal_height}" rx="8"/>
<g transform="translate(8, 8) scale(0.985)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
"""A terminal without a window around it, and without fonts of the internet."""


def train(folder: Path, config: str) -> tuple[Text, Path]:
    """Train in a terminal of this size. Return what it shows after ``PART`` of the steps, and the run folder."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    terminal, child_end = pty.openpty()
    fcntl.ioctl(child_end, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "xft", "train", config, "--work-dir", f"runs/{config}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command, stdin=child_end, stdout=child_end, stderr=child_end, cwd=folder, env=environment
    )
    os.close(child_end)
    shown: Text | None = None
    while True:
        if (
            shown is None
            and not select.select([terminal], [], [], QUIET_SECONDS)[0]
            and _is_due(screen.display)
        ):
            shown = _as_text(screen)
        try:
            output = os.read(terminal, 1 << 16)
        except OSError:  # the process has ended
            break
        # pyte knows no dim text.
        stream.feed(output.replace(b"\x1b[2m", b"\x1b[90m"))
    if process.wait() != 0 or shown is None:
        raise SystemExit("\n".join(screen.display))
    return shown, folder / "runs" / config


def _is_due(lines: list[str]) -> bool:
    """Whether the whole panel is shown, late enough in the run."""
    text = "\n".join(lines)
    match = re.search(r"step (\d+)/(\d+) ", text)
    return match is not None and "╰" in text and int(match[1]) >= PART * int(match[2])


def _as_text(screen: pyte.Screen) -> Text:
    text = Text(no_wrap=True)
    for number in range(LINES):
        for column in range(COLUMNS):
            char = screen.buffer[number][column]
            text.append(char.data, _style(char.fg, char.bold))
        text.append("\n")
    return text


def _style(color: str, bold: bool) -> str:
    names = {"default": "", "brown": "yellow"}
    name = names.get(color, f"#{color}" if re.fullmatch("[0-9a-f]{6}", color) else color)
    name = re.sub("^bright(?=[a-z])", "bright_", name)
    return f"{'bold ' if bold else ''}{name}".strip()


def draw(text: Text, file: Path) -> None:
    """Write a terminal as SVG."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(text, end="")
    file.write_text(
        console.export_svg(theme=SVG_EXPORT_THEME, code_format=SVG, unique_id="xft"), encoding="utf-8"
    )


def photograph(page: Path, file: Path) -> None:
    """Write a screenshot of the top of a page."""
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if browser is None:
        raise SystemExit(f"no browser for the picture of the report; install one of {', '.join(BROWSERS)}")
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WINDOW}"]
    subprocess.run(
        [browser, *options, f"--screenshot={file}", page.resolve().as_uri()],
        check=True,
        capture_output=True,
    )


def main() -> None:
    """Make both pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", default=CONFIG, help=f"shipped config (default: {CONFIG})")
    parser.add_argument(
        "--out", type=Path, default=ASSETS, help="folder of the pictures (default: docs/assets)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text, run = train(Path(folder), arguments.config)
        draw(text, arguments.out / "live.svg")
        photograph(run / "report.html", arguments.out / "report.png")


if __name__ == "__main__":
    main()
