"""Chat in a terminal."""

import pytest
from helpers.chats import run_chat


def test_chat_with_base_keeps_separate_histories(capsys: pytest.CaptureFixture[str]) -> None:
    chat = run_chat(["/system Be brief.", "a", "b", "/regenerate"], compare_base=True)
    assert chat.base.conversations[-1] == [
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "old A"),
        ("user", "b"),
    ]
    assert chat.history[-1] == ("assistant", "new B")
    assert "base> old A\ntuned> new A\n" in capsys.readouterr().out


def test_chat_joins_lines_that_end_in_a_backslash() -> None:
    assert run_chat(["a\\", "b\\", "c"]).history[0] == ("user", "a\nb\nc")


def test_chat_escapes_control_characters_of_answers(capsys: pytest.CaptureFixture[str]) -> None:
    run_chat(["\x1b]0;mine\x07 \x1b[2J\tx"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\tX" in out
