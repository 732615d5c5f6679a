"""Highlights, control characters and formats of terminal output."""

import logging
import unicodedata

import pytest

from xft.utils import console

BEGIN, END = console.HIGHLIGHT


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
