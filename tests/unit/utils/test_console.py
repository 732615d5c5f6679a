"""Highlights, control characters and formats of terminal output."""

import ast
import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from xft.utils import console

BEGIN, END = console.HIGHLIGHT
PRINTING_CALLS = ("print", "sys.stdout.write", "sys.stderr.write")


def test_highlights_are_brackets_without_color_and_green_with() -> None:
    record = logging.LogRecord("xft", logging.INFO, "", 0, f"a {BEGIN}b{END} c", None, None)
    assert console.HighlightFormatter("%(message)s", color=False).format(record) == "a [[b]] c"
    assert console.HighlightFormatter("%(message)s", color=True).format(record) == "a \033[32mb\033[0m c"


def test_escape_control_chars_leaves_no_control_character() -> None:
    text = console.escape_control_chars(f"\033]0;title\007 \x9b31m {BEGIN}fake{END} 你好\tnext")
    assert not any(unicodedata.category(char) == "Cc" for char in text.replace("\t", ""))
    assert BEGIN not in text
    assert END not in text
    assert "你好\tnext" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (12.4, "12s"), (200, "3m20s"), (3599.6, "1h00m"), (7500, "2h05m")]
)
def test_format_duration(seconds: float, text: str) -> None:
    assert console.format_duration(seconds) == text


def test_format_bytes_uses_decimal_units() -> None:
    texts = [console.format_bytes(size) for size in (12, 1234, 5_600_000, 7.25e9)]
    assert texts == ["12 bytes", "1.2 kB", "5.6 MB", "7.2 GB"]


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "expected"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_use_color_needs_a_terminal_and_no_no_color(
    is_terminal: bool, no_color: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    assert console.use_color() is expected


@pytest.mark.parametrize(("is_terminal", "expected"), [(True, None), (False, "1")])
def test_progress_bars_are_for_terminals_only(
    is_terminal: bool, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    console.silence_libraries()
    assert os.environ.get("TQDM_DISABLE") == expected


def test_progress_bars_of_tqdm_write_nothing_to_a_pipe() -> None:
    code = (
        "from xft.utils import console; console.silence_libraries(); import tqdm; list(tqdm.tqdm(range(3)))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stderr == ""


UNSAFE = "\033[2J\r\x07\x7f\x9b31m\u202etxt\u2066\u200f\u061c\u2028\ud800"


def _is_safe(text: str) -> bool:
    """Whether a terminal shows ``text`` as written: no control, separator, bidi or surrogate character."""
    return all(
        unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        and unicodedata.bidirectional(char) not in ("LRO", "RLO", "LRE", "RLE", "PDF", "LRI", "RLI", "FSI")
        and char not in "\u200e\u200f\u061c"
        for char in text.replace("\n", "").replace("\t", "")
    )


def test_escape_control_chars_replaces_bidi_controls_separators_and_surrogates() -> None:
    text = console.escape_control_chars(UNSAFE)
    assert _is_safe(text)
    assert text == r"␛[2J␍␇\u007f\u009b31m\u202etxt\u2066\u200f\u061c\u2028\ud800"


def test_escape_control_chars_keeps_text_in_other_scripts() -> None:
    text = "שלום مرحبا 你好 👩\u200d💻 e\u0301\tnext\n"
    assert console.escape_control_chars(text) == text


def test_escape_line_shows_newlines() -> None:
    assert console.escape_line("a\nsaved final/\tb") == "a⏎saved final/→b"


def test_echo_and_log_lines_escape_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    console.echo(UNSAFE)
    console.echo(UNSAFE, error=True)
    captured = capsys.readouterr()
    record = logging.LogRecord("xft", logging.INFO, "", 0, UNSAFE, None, None)
    logged = console.HighlightFormatter("%(message)s", color=True).format(record)
    assert captured.out
    assert captured.err
    for text in (captured.out, captured.err, logged):
        assert _is_safe(text)


def test_colorize_escapes_the_text_and_adds_codes() -> None:
    assert console.colorize("\033[0m", console.RED, True) == "\033[31m␛[0m\033[0m"


def test_only_the_console_module_prints() -> None:
    """Any other ``print`` would send text to the terminal unescaped."""
    root = Path(console.__file__).parents[1]
    printing = {
        (str(file.relative_to(root)), node.lineno)
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in PRINTING_CALLS
    }
    assert {file for file, _ in printing} == {"utils/console.py"}, sorted(printing)


@pytest.mark.parametrize(
    ("score", "text"), [(8.0, "8"), (3.46667, "3.47"), (0.5, "0.5"), (0, "0"), (10, "10")]
)
def test_scores_have_up_to_two_decimals(score: float, text: str) -> None:
    assert console.format_score(score) == text


def test_shorten_is_one_line_without_control_characters() -> None:
    assert console.shorten("a\n b\x1b[2J", 100) == console.shorten("a b\x1b[2J", 100)
    assert "\x1b" not in console.shorten("\x1b[2J", 100)
    assert console.shorten("x" * 101, 100) == "x" * 99 + "…"
    assert console.shorten("x" * 100, 100) == "x" * 100
