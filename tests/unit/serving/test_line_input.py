"""Text input with keys sent through a pipe."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from xft.serving import line_input

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
def test_reader_returns_typed_and_pasted_texts_of_several_lines(
    keys: PipeInput, typed: str, text: str
) -> None:
    keys.send_text(typed)
    assert line_input.make_reader(COMMANDS)("you> ") == text


def test_reader_on_ctrl_d_raises_eof_and_on_ctrl_c_keyboard_interrupt(keys: PipeInput) -> None:
    keys.send_text("\x04")
    with pytest.raises(EOFError):
        line_input.make_reader(COMMANDS)("you> ")
    keys.send_text("half\x03")
    with pytest.raises(KeyboardInterrupt):
        line_input.make_reader(COMMANDS)("you> ")


def _completions(text: str) -> list[str]:
    completions = line_input.SlashCompleter(COMMANDS).get_completions(Document(text), CompleteEvent())
    return [text[: len(text) + completion.start_position] + completion.text for completion in completions]


def test_completer_completes_command_names_and_files_only(tmp_path: Path) -> None:
    assert _completions("/re") == ["/reset", "/regenerate"]
    assert _completions("re") == _completions("say /re") == _completions("/reset /re") == []
    (tmp_path / "rows.jsonl").touch()
    assert _completions(f"/save {tmp_path}/ro") == [f"/save {tmp_path}/rows.jsonl"]
