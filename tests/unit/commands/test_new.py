"""``xft new``, and a config that is made for ``--model``."""

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import save_tiny

from xft import cli
from xft.commands.options import resolve_options
from xft.config import load_config
from xft.errors import ConfigError

TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}</s>{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path, make_byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model and rows."""
    save_tiny(tmp_path / "tiny", "llama", make_byte_tokenizer(TEMPLATE))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "Hi", "answer": "Hello"}) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_new_writes_a_config_and_prints_three_commands(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["new", "--model", "tiny", "--data", "rows.jsonl", "--method", "lora", "mine.py"]) == 0
    out = capsys.readouterr().out
    assert (folder / "mine.py").read_text() in out
    commands = out.partition("next:")[2].split()
    assert commands.count("mine.py") == 3
    assert cli.main(["check", "mine.py"]) == 0
    assert cli.main(["new", "--model", "tiny", "--data", "rows.jsonl", "mine.py"]) == 2


@pytest.mark.parametrize("words", [[], ["--method", "full"]])
def test_a_format_for_own_columns_is_given_as_the_message_says(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.csv").write_text("frage;antwort\nWie?;So.\n")
    new = ["new", "--model", "tiny", "--data", "own.csv", *words, "mine.py"]
    assert cli.main(new) == 3
    override = "data.format=dict(type='columns', user='frage', assistant='antwort')"
    assert override in capsys.readouterr().err
    assert cli.main([*new, override]) == 0
    assert load_config("mine.py")["data"]["format"] == {
        "type": "columns",
        "user": "frage",
        "assistant": "antwort",
    }
    arguments = cli.build_parser().parse_args(["train", "--model", "tiny", "--data", "own.csv", override])
    resolve_options(arguments)
    assert load_config(arguments.config)["data"]["format"]["user"] == "frage"


def test_new_takes_no_other_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", "--model", "tiny", "--data", "rows.jsonl", "mine.py", "seed=1"]) == 2
    assert "edit the file for other keys" in capsys.readouterr().err


def test_new_asks_for_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["tiny", " 'rows.jsonl' ", "", "8"])
    monkeypatch.setattr(builtins, "input", lambda: next(answers))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert cli.main(["new"]) == 0
    assert (folder / "tiny_lora.py").is_file() or (folder / "tiny_qlora.py").is_file()


def test_new_without_a_terminal_names_the_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert cli.main(["new", "--model", "tiny"]) == 2
    assert "--data" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--model", "tiny"], ["./tiny"]])
def test_a_config_is_made_for_a_model(folder: Path, words: list[str]) -> None:
    arguments = cli.build_parser().parse_args(
        ["train", *words, "--data", "rows.jsonl", "--method", "full", "training.epochs=1"]
    )
    resolve_options(arguments)
    config = load_config(arguments.config)
    assert config["data"]["path"] == "rows.jsonl"
    assert config["adapter"] is None
    assert Path(arguments.config).name == "tiny_full.py"
    assert arguments.cfg_options == ["training.epochs=1"]


def test_a_model_needs_data_and_no_config(folder: Path) -> None:
    for words, key in ((["--model", "tiny"], "--data"), (["--model", "tiny", "c.py"], "CONFIG")):
        with pytest.raises(ConfigError) as caught:
            resolve_options(cli.build_parser().parse_args(["train", *words]))
        assert caught.value.key == key


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["tiny", "rows.jsonl", "", "abc"], "--memory: got 'abc'; expected a number of GB"),
        (["tiny", "rows.jsonl", "", "-1"], "--memory: got -1.0; expected at least 0.1"),
        (["tiny", "rows.jsonl", "", "nan"], "--memory: got nan; expected at least 0.1"),
        (["tiny", "rows.jsonl", "", "1e999"], "--memory: got inf; expected at least 0.1"),
        (["tiny", "rows.jsonl", "qlra", ""], "--method: got 'qlra'"),
        (["tiny", ""], "data: got 'nothing'; expected a file"),
        (["tiny", "absent.csv", "", ""], "absent.csv"),
        (["./absent", "rows.jsonl", "", ""], "absent"),
        ([], "model: got 'the end of the input'; expected an answer"),
        (["tiny"], "data: got 'the end of the input'; expected an answer"),
        (["tiny", "rows.jsonl", ""], "memory: got 'the end of the input'"),
    ],
)
def test_a_bad_answer_is_one_line(
    folder: Path,
    answers: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = iter(answers)

    def answer() -> str:
        try:
            return next(given)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert cli.main(["new"]) == (4 if "./absent" in answers else 2)
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    assert not list(folder.glob("*.py"))


def test_bytes_that_are_no_text_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(builtins, "input", b"\xff".decode)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert cli.main(["new"]) == 2
    assert "model" in capsys.readouterr().err


def test_ctrl_c_at_a_question_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(builtins, "input", interrupt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert cli.main(["new"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("memory", ["nan", "-1", "0"])
def test_memory_of_a_config_that_is_made_is_checked(folder: Path, memory: str) -> None:
    words = ["train", "--model", "tiny", "--data", "rows.jsonl", "--memory", memory]
    with pytest.raises(ConfigError) as caught:
        resolve_options(cli.build_parser().parse_args(words))
    assert caught.value.key == "--memory"
