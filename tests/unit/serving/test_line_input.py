"""Typing in the terminal, with keys pressed through a pipe; and columns as a terminal shows them."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from xft.serving import line_input
from xft.serving.side_by_side import Beside

COMMANDS = {"/reset": "forget", "/regenerate": "again", "/save": "write"}


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[PipeInput]:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("hello\r", "hello"),
        ("a\x1b\rb\r", "a\nb"),
        ("a\\\rb\r", "a\nb"),
        ("\x1b[200~one\ntwo\x1b[201~\r", "one\ntwo"),
    ],
    ids=["enter", "alt-enter", "backslash", "pasted"],
)
def test_enter_sends_and_lines_can_be_many(keys: PipeInput, typed: str, text: str) -> None:
    keys.send_text(typed)
    assert line_input.reader(COMMANDS)("you> ") == text


def test_ctrl_d_ends_and_ctrl_c_interrupts(keys: PipeInput) -> None:
    keys.send_text("\x04")
    with pytest.raises(EOFError):
        line_input.reader(COMMANDS)("you> ")
    keys.send_text("half\x03")
    with pytest.raises(KeyboardInterrupt):
        line_input.reader(COMMANDS)("you> ")


def _completed(text: str) -> list[str]:
    found = line_input.SlashCompleter(COMMANDS).get_completions(Document(text), CompleteEvent())
    return [text[: len(text) + each.start_position] + each.text for each in found]


def test_names_of_commands_are_completed_and_nothing_else_is(tmp_path: Path) -> None:
    assert _completed("/re") == ["/reset", "/regenerate"]
    assert _completed("re") == _completed("say /re") == _completed("/reset /re") == []
    (tmp_path / "rows.jsonl").touch()
    assert _completed(f"/save {tmp_path}/ro") == [f"/save {tmp_path}/rows.jsonl"]


def test_two_texts_stand_beside_each_other_and_are_whole_at_the_end() -> None:
    out = io.StringIO()
    console = Console(file=out, width=40, height=8, force_terminal=True, color_system=None)
    with Beside(("base", "tuned"), console) as columns:
        columns.add(0, "\n".join(f"left {i}" for i in range(20)))
        growing = out.getvalue()
        columns.add(1, "right [b]is not markup[/b]")
    assert "left 19" in growing
    assert "left 0 " not in growing
    shown = out.getvalue()[len(growing) :]
    first = next(line for line in shown.splitlines() if "left 0 " in line)
    assert first.index("right [b]is") > first.index("left 0")
    assert "left 10" in shown
    final = shown.rpartition("\x1b[2K")[2]
    assert [line.split()[1] for line in final.splitlines() if "left" in line] == [str(i) for i in range(20)]
    assert max(len(line) for line in final.splitlines()) <= 40
