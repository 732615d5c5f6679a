"""Wrapping and shortening of the example in the run summary."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xft.reporting import run_summary
from xft.utils import console

BEGIN, END = console.HIGHLIGHT
PLAIN = st.text(st.sampled_from("ab <|>⏎é你好🎉"), max_size=40)


def width(line: str) -> int:
    """Columns by the Unicode tables; highlight marks are two brackets each."""
    visible = line.replace(BEGIN, "[[").replace(END, "]]")
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in visible)


@given(st.lists(st.tuples(PLAIN, st.booleans()), max_size=8), st.integers(12, 40))
def test_wrap_keeps_text_and_highlights(pieces: list[tuple[str, bool]], columns: int) -> None:
    text = "".join(f"{BEGIN}{piece}{END}" if is_target else piece for piece, is_target in pieces)
    lines = list(run_summary._wrap(text, columns))
    assert "".join(lines).replace(BEGIN, "").replace(END, "") == "".join(piece for piece, _ in pieces)
    inside = [char for line in lines for char in highlighted(line)]
    assert inside == [char for piece, is_target in pieces if is_target for char in piece]
    assert all(width(each) <= columns for each in lines)


def test_wrap_breaks_behind_words() -> None:
    text = f"say the {BEGIN}number seven and eight{END}, but not {'9' * 30}"
    lines = [line.replace(BEGIN, "[[").replace(END, "]]") for line in run_summary._wrap(text, 24)]
    assert lines == ["say the [[number ]]", "[[seven and eight]], ", f"but not {'9' * 16}", "9" * 14]


def highlighted(line: str) -> str:
    """Return the highlighted text; each line closes the highlights that it opens."""
    out, opened = "", False
    for char in line:
        if char in (BEGIN, END):
            assert opened is (char == END)
            opened = char == BEGIN
        elif opened:
            out += char
    assert not opened
    return out


@pytest.mark.parametrize("columns", [60, 100, 400])
def test_truncate_to_width_shortens_only_long_texts(columns: int) -> None:
    texts = ["<|im_start|>", "x" * 500, "a short answer", "y" * 90]
    shortened = run_summary._truncate_to_width(texts, columns)
    assert sum(map(len, shortened)) <= max(columns, 4 * (run_summary._MIN_PIECE + 3))
    assert (shortened[0], shortened[2]) == (texts[0], texts[2])
    assert shortened[1].startswith("xx")
    assert " … " in shortened[1]
    assert shortened[1].endswith("xx")


def test_truncate_to_width_keeps_texts_that_fit() -> None:
    assert run_summary._truncate_to_width(["one", "two"], 6) == ["one", "two"]
