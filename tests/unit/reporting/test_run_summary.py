"""The banner: it fits one screen, and what is trained can be seen in it."""

import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xft.reporting import run_summary
from xft.utils import console

BEGIN, END = console.HIGHLIGHT
PLAIN = st.text(st.sampled_from("ab <|>⏎é你好🎉"), max_size=40)


def width(line: str) -> int:
    """Columns of a terminal, counted with the standard's own table; marks are two brackets each."""
    spelt = line.replace(BEGIN, "[[").replace(END, "]]")
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in spelt)


@given(st.lists(st.tuples(PLAIN, st.booleans()), max_size=8), st.integers(12, 40))
def test_lines_hold_the_whole_text_and_its_marks(pieces: list[tuple[str, bool]], columns: int) -> None:
    text = "".join(f"{BEGIN}{each}{END}" if trained else each for each, trained in pieces)
    lines = list(run_summary._cut(text, columns))
    assert "".join(lines).replace(BEGIN, "").replace(END, "") == "".join(each for each, _ in pieces)
    inside = [character for line in lines for character in marked(line)]
    assert inside == [character for each, trained in pieces if trained for character in each]
    assert all(width(each) <= columns for each in lines)


def marked(line: str) -> str:
    """What stands between marks; each line closes those that it opens."""
    out, opened = "", False
    for character in line:
        if character in (BEGIN, END):
            assert opened is (character == END)
            opened = character == BEGIN
        elif opened:
            out += character
    assert not opened
    return out


@pytest.mark.parametrize("room", [60, 100, 400])
def test_long_texts_give_way_and_short_ones_stay(room: int) -> None:
    texts = ["<|im_start|>", "x" * 500, "a short answer", "y" * 90]
    fitted = run_summary._fit(texts, room)
    assert sum(map(len, fitted)) <= max(room, 4 * (run_summary._LEAST_PIECE + 3))
    assert (fitted[0], fitted[2]) == (texts[0], texts[2])
    assert fitted[1].startswith("xx")
    assert " … " in fitted[1]
    assert fitted[1].endswith("xx")


def test_what_has_room_is_left_alone() -> None:
    assert run_summary._fit(["one", "two"], 6) == ["one", "two"]


def test_marks_are_brackets_in_a_file_and_green_in_colour() -> None:
    record = logging.LogRecord("xft", logging.INFO, "", 0, f"a {BEGIN}b{END} c", None, None)
    assert console.HighlightFormatter("%(message)s", color=False).format(record) == "a [[b]] c"
    assert console.HighlightFormatter("%(message)s", color=True).format(record) == "a \033[32mb\033[0m c"


def test_a_hostile_text_commands_no_terminal() -> None:
    text = console.escape_control_chars(f"\033]0;title\007 \x9b31m {BEGIN}fake{END} 你好\tnext")
    assert not any(unicodedata.category(each) == "Cc" for each in text.replace("\t", ""))
    assert BEGIN not in text
    assert END not in text
    assert "你好\tnext" in text
