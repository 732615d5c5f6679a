"""`chat` as a user types it, on a tiny model."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest
import torch
from helpers.forked import ForkedProcess
from helpers.tiny import ROOT
from transformers import AutoModelForCausalLM

from xft.cli import main
from xft.serving import chat_loop, open_session
from xft.types import Message


def test_chat_with_prompts_answers_each_and_exits(finished_run: Path) -> None:
    arguments = ["--prompt", "Say number 3", "Who are you?", "--max-new-tokens", "3"]
    process = ForkedProcess(ROOT / "tools" / "chat.py", str(finished_run), *arguments)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert len(output.splitlines()) == 2
    assert error == ""


@pytest.mark.parametrize("kind", ["run", "checkpoint", "adapter", "model and adapter"])
def test_open_session_of_every_saved_form_gives_the_same_answer(
    finished_run: Path, tiny_model: Path, kind: str
) -> None:
    paths: dict[str, tuple[str, str | None]] = {
        "run": (str(finished_run), None),
        "checkpoint": (str(finished_run / "checkpoints" / "last"), None),
        "adapter": (str(finished_run / "final"), None),
        "model and adapter": (str(tiny_model), str(finished_run / "final")),
    }
    path, adapter = paths[kind]
    whole = open_session(path, adapter=adapter, max_new_tokens=4)
    run = open_session(str(finished_run), max_new_tokens=4)
    assert whole.ask_once("Say number 3") == run.ask_once("Say number 3")


def test_session_encodes_conversation_with_the_chat_template(
    finished_run: Path, tiny_tokenizer: Any
) -> None:
    session = open_session(str(finished_run), system="Be brief.")
    session.history = [Message("user", "a"), Message("assistant", "b")]
    expected = tiny_tokenizer.apply_chat_template(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    assert session.generator.encode(session.conversation("c")) == expected


def test_greedy_answers_equal_transformers(tiny_model: Path, tiny_tokenizer: Any) -> None:
    session = open_session(str(tiny_model), max_new_tokens=6)
    turns = [[Message("user", text)] for text in ("Hi", "A much longer question than the other one")]
    answers = session.generator.answer(turns, max_new_tokens=6)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    for turn, answer in zip(turns, answers, strict=True):
        ids = torch.tensor([session.generator.encode(turn)])
        output = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=2)[0, ids.shape[1] :]
        assert answer.text == tiny_tokenizer.decode(output, skip_special_tokens=True).strip()


def test_streamed_pieces_join_to_the_answer(finished_run: Path) -> None:
    session = open_session(str(finished_run), max_new_tokens=5)
    whole = session.ask_once("Say number 3")
    assert "".join(session.ask("Say number 3")).strip() == whole
    assert [message.role for message in session.history] == ["user", "assistant"]
    session.reset()
    assert session.history == []


def test_interrupted_answer_stays_in_the_history(finished_run: Path) -> None:
    session = open_session(str(finished_run), max_new_tokens=50)
    pieces = session.ask("Say number 3")
    first = next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert session.history[-1].content == first.strip()


def test_commands_reset_and_set_the_system_message(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = open_session(str(finished_run), max_new_tokens=2)
    lines = iter(["Hi", "/system Be brief.", "/wrong", "/help", "", "/exit", "never read"])
    chat_loop(session, lambda _: next(lines))
    assert session.system == "Be brief."
    assert session.history == []
    printed = capsys.readouterr().out
    assert "unknown command /wrong" in printed
    assert next(lines) == "never read"


def test_compare_base_gives_the_answer_of_the_base_model(
    finished_run: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--prompt", "Say number 3", "--max-new-tokens", "4"]
    answers = []
    for path in (tiny_model, finished_run):
        assert main(["chat", str(path), *options]) == 0
        answers.append(capsys.readouterr().out.strip())
    assert main(["chat", str(finished_run), "--compare-base", *options]) == 0
    assert capsys.readouterr().out == f"base>  {answers[0]}\ntuned> {answers[1]}\n"
    assert answers[0] != answers[1]
    assert main(["chat", str(tiny_model), "--compare-base", *options]) == 4
    assert "no base to compare it with" in capsys.readouterr().err


def test_chat_in_a_terminal_survives_ctrl_c_and_exits_at_ctrl_d(talkative_run: Path) -> None:
    environment = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    arguments = [
        str(ROOT / "tools" / "chat.py"),
        str(talkative_run),
        "--max-new-tokens",
        "2000",
        "--temperature",
        "9",
    ]
    child = pexpect.spawn(
        sys.executable,
        arguments,
        env=environment,
        encoding="utf-8",
        timeout=60,
        # Tests that a shell runs in the background inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    child.expect("you>")
    child.sendline("Say number 3")
    child.expect(r"model> .*\w")
    child.sendintr()
    child.expect("interrupted")
    child.expect("you>")
    child.sendintr()
    child.expect("Ctrl-D or /exit exits")
    child.sendline("/reset")
    child.expect(r"\(history cleared\)")
    child.expect("you>")
    # The terminal drops Ctrl-D while the prompt is being set up: repeat until the process exits.
    for _ in range(20):
        child.sendeof()
        if child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=3) == 0:
            break
    child.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere/at/all"], "does not exist"),
        (["{empty}"], "is not a run folder, an adapter or a model"),
        (["{model}", "--adapter", "{model}"], "expected an adapter"),
        (["{run}", "--adapter", "{run}"], "is an adapter itself"),
        (["{run}", "--max-new-tokens", "0"], "at least 1"),
    ],
)
def test_chat_with_unusable_model_prints_one_line(
    finished_run: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    places = {"empty": tmp_path, "model": tiny_model, "run": finished_run}
    code = main(["chat", *(argument.format(**places) for argument in arguments), "--prompt", "Hi"])
    error = capsys.readouterr().err
    assert code != 0
    assert message in error
    assert error.count("\n") == 1
