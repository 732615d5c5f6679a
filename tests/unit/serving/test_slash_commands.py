"""What lines that begin with a slash do, on a model that only repeats."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xft.data.formats.chat import openai
from xft.serving.session import Session
from xft.serving.slash_commands import COMMANDS
from xft.serving.terminal import talk


class Repeats:
    """Says how many turns it has seen, and the last one in capitals."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.asked: list[list[tuple[str, str]]] = []

    def stream(self, conversation: Any, max_new_tokens: int, temperature: float) -> Iterator[str]:
        self.asked.append([(each.role, each.content) for each in conversation])
        yield self.name
        yield conversation[-1].content.upper()


def _talk(lines: list[str], base: bool = False) -> tuple[Session, Session]:
    rest = iter(lines)

    def read(prompt: str) -> str:
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    session: Any = Session(Repeats("new "))  # type: ignore[arg-type]
    other: Any = Session(Repeats("old "))  # type: ignore[arg-type]
    talk(session, read, other if base else None)
    return session, other


def _turns(session: Session) -> list[tuple[str, str]]:
    return [(each.role, each.content) for each in session.history]


def test_an_answer_is_given_again_in_the_place_of_the_last() -> None:
    session, _ = _talk(["a", "b", "/regenerate"])
    generator: Any = session.generator
    assert generator.asked[-1] == generator.asked[-2]
    assert _turns(session) == [
        ("user", "a"),
        ("assistant", "new A"),
        ("user", "b"),
        ("assistant", "new B"),
    ]


def test_base_and_tuned_have_conversations_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    session, base = _talk(["/system Be brief.", "a", "b", "/regenerate"], base=True)
    generator: Any = base.generator
    assert generator.asked[-1] == [
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "old A"),
        ("user", "b"),
    ]
    assert _turns(session)[-1] == ("assistant", "new B")
    assert "base> old A\ntuned> new A\n" in capsys.readouterr().out


def test_a_saved_conversation_is_a_row_that_can_be_trained_on(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    _talk(["/system Short.", "a", f"/save {file}", "/reset", "ü", f"/save {file}"])
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    first, second = (openai(each) for each in rows)
    turns = [(each.role, each.content, each.is_target) for each in first]
    assert turns == [("system", "Short.", False), ("user", "a", False), ("assistant", "new A", True)]
    assert second[1].content == "ü"


def test_a_backslash_at_the_end_goes_on_in_the_next_line() -> None:
    session, _ = _talk(["a\\", "b\\", "c"])
    assert _turns(session)[0] == ("user", "a\nb\nc")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["/regenerate"], "nothing was answered yet"),
        (["/save"], "which file?"),
        (["/save x"], "nothing was said yet"),
        (["a", "/save /nowhere/x"], "cannot write /nowhere/x (No such file or directory)"),
        (["/temperature hot"], "got 'hot', expected a number from 0 to 10"),
        (["/temperature 0.5"], "(temperature: 0.5)"),
        (["a", "/regenerate"], "temperature 0 gives the same answer again"),
        (["/regenrate"], "did you mean '/regenerate'"),
    ],
)
def test_what_a_command_says(lines: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    _talk(lines)
    assert said in capsys.readouterr().out


def test_help_names_every_command_within_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    _talk(["/help", "/quit", "never"])
    lines = capsys.readouterr().out.splitlines()
    assert {each.split()[0] for each in lines if each.startswith("/")} == set(COMMANDS)
    assert max(map(len, lines)) <= 80


def test_what_a_model_writes_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _talk(["\x1b]0;mine\x07 \x1b[2J\tx"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\tX" in out
