"""Commands of the chat."""

import json
from pathlib import Path

import pytest
from helpers.chats import run_chat
from helpers.fake_images import FakeProcessor
from helpers.generators import EchoGenerator
from helpers.pictures import encoded, picture

from xft.data.formats.chat import openai
from xft.serving import Session
from xft.serving.slash_commands import COMMANDS, run_command


def test_regenerate_replaces_the_last_answer() -> None:
    chat = run_chat(["a", "b", "/regenerate"])
    assert chat.generator.conversations[-1] == chat.generator.conversations[-2]
    assert chat.history == [
        ("user", "a"),
        ("assistant", "new A"),
        ("user", "b"),
        ("assistant", "new B"),
    ]


def test_save_appends_rows_of_the_openai_format(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    run_chat(["/system Short.", "a", f"/save {file}", "/reset", "ü", f"/save {file}"])
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    first, second = (openai(row) for row in rows)
    turns = [(message.role, message.content, message.is_target) for message in first]
    assert turns == [("system", "Short.", False), ("user", "a", False), ("assistant", "new A", True)]
    assert second[1].content == "ü"


@pytest.mark.parametrize(
    ("lines", "output"),
    [
        (["/regenerate"], "/regenerate: no answer yet"),
        (["/save"], "/save: expected the name of a file"),
        (["/save x"], "/save: the conversation is empty"),
        (["a", "/save /nowhere/x"], "cannot write /nowhere/x (No such file or directory)"),
        (["/temperature hot"], "got 'hot', expected a number from 0 to 10"),
        (["/temperature 0.5"], "(temperature: 0.5)"),
        (["a", "/regenerate"], "temperature 0 gives the same answer again"),
        (["/regenrate"], "did you mean '/regenerate'"),
    ],
)
def test_run_command_prints_result_or_mistake(
    lines: list[str], output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_chat(lines)
    assert output in capsys.readouterr().out


def test_help_lists_every_command_within_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    run_chat(["/help", "/quit", "never read"])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("/")} == set(COMMANDS)
    assert max(map(len, lines)) <= 80


def test_image_is_shown_with_the_next_message_and_saved(tmp_path: Path) -> None:
    generator = EchoGenerator("saw ")
    generator.processor = FakeProcessor()
    session, file = Session(generator), tmp_path / "rows.jsonl"
    (tmp_path / "a.png").write_bytes(encoded(picture(20, 30)))
    output, action = run_command([session], f"/image {tmp_path / 'a.png'}")
    assert ("30x20" in output, action) == (True, "read")
    list(session.ask("what?"))
    run_command([session], f"/save {file}")
    question, answer = openai(json.loads(file.read_text(encoding="utf-8")))
    assert question.images[0].path == str(tmp_path / "a.png")
    assert question.content.endswith("what?")
    assert answer.is_target


@pytest.mark.parametrize("argument", ["", "absent.png"])
def test_image_that_is_none_is_refused(argument: str) -> None:
    output, action = run_command([Session(EchoGenerator())], f"/image {argument}")
    assert output.startswith("/image: ")
    assert action == "read"
