"""The command line: arguments, exit codes, one clear line and no traceback."""

import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from xft import cli
from xft.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ModelError,
    TemplateError,
    TrainingError,
    XftError,
)
from xft.utils import console
from xft.version import __version__

ROOT = Path(__file__).resolve().parents[2]
LORA = str(ROOT / "configs" / "smollm2_lora.py")
COMMANDS = [
    *("train", "new", "chat", "serve", "eval", "score", "convert", "report", "compare"),
    *("inspect-data", "prepare-data", "check", "list", "schema", "copy", "doctor", "completion"),
]


@pytest.fixture(autouse=True)
def _process_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command changes the search path, the terminal's handler and the levels of libraries."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(console.LOGGER, "handlers", list(console.LOGGER.handlers))
    monkeypatch.setattr(console.LOGGER, "propagate", console.LOGGER.propagate)
    monkeypatch.setattr(console.LOGGER, "level", console.LOGGER.level)
    monkeypatch.setattr(console, "silence_libraries", lambda: None)
    monkeypatch.setattr(cli, "localize", lambda text: text)


def fake(monkeypatch: pytest.MonkeyPatch, act: Callable[[Namespace], None], name: str = "check") -> None:
    """Let ``xft NAME CONFIG`` do something else."""
    monkeypatch.setitem(cli.COMMANDS, name, replace(cli.COMMANDS[name], run=act))


def fake_error(monkeypatch: pytest.MonkeyPatch, error: BaseException, name: str = "check") -> None:
    def act(_: Namespace) -> None:
        raise error

    fake(monkeypatch, act, name)


def test_help_imports_nothing_heavy_and_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "xft", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert all(re.search(rf"^ +{command}\b", done.stdout, re.MULTILINE) for command in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not {"torch", "transformers", "mmengine", "peft", "numpy", "argcomplete"} & imported


@pytest.mark.parametrize("argument", ["list", "--help"])
def test_a_reader_that_leaves_early_is_no_error(argument: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-m", "xft", argument],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        noise = process.stderr.read()
        assert (process.wait(60), noise) == (0, b"")


def test_a_terminal_that_cannot_show_a_character_ends_nothing() -> None:
    """The name of a file that is absent, which is told without waiting for torch."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "xft", "check", "числа.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert b"no file '?????.py'" in done.stderr
    assert not re.search(rb"\| +torch$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("list >/dev/full", 1, "standard output cannot be written"),
        ("--help >/dev/full", 1, "standard output cannot be written"),
        ("train --help >/dev/full", 1, "standard output cannot be written"),
        ("--version >/dev/full", 1, "standard output cannot be written"),
        ("list >&-", 0, ""),
        ("train --help >&-", 0, ""),
        ("list 2>&-", 0, ""),
        ("list <&- >&- 2>&-", 0, ""),
    ],
)
def test_closed_and_full_streams_end_without_a_traceback(command: str, code: int, message: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m xft {command}', sys.executable],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_an_error_of_torch_itself_is_printed_on_every_rank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without torch, no store can tell which rank prints first."""
    monkeypatch.setitem(sys.modules, "xft.distributed.error_report", None)
    monkeypatch.setenv("RANK", "1")
    fake_error(monkeypatch, ImportError("libtorch.so: cannot open"), "train")
    assert cli.main(["train", LORA, "--launcher", "pytorch"]) == 1
    assert "error: rank 1: ImportError: libtorch.so" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: xft {command}" in shown
    assert "examples:\n  xft " + command in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"xft {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "COMMAND"),
        (["trian"], "no command 'trian'; did you mean 'train'?"),
        (["convert", "run"], "OUT"),
        (["train", LORA, "--seed", "x"], "invalid int value: 'x'"),
        (["train", LORA, "--launcher", "horse"], "invalid choice: 'horse'"),
        (["score", "run"], "FILE"),
        (["chat", "run", "--load-in-bits", "3"], "invalid choice: 3"),
        (["convert", "run", "out", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["inspect-data", "c.py", "--split", "test"], "invalid choice: 'test'"),
        (["check", LORA, "--cfg-options"], "expected at least one argument"),
        (["check", LORA, "--nonsense"], "unrecognized arguments: --nonsense"),
        (["sweep", "c.py", "lr=1,2", "--dry-run"], "unrecognized arguments: --dry-run\n"),
        (
            ["sweep", "c.py", "lr=1,2", "--date=r.csv"],
            "unrecognized arguments: --date; did you mean '--data' or '--debug'?",
        ),
    ],
)
def test_wrong_arguments_end_with_2_and_say_which(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], []),
        (["--cfg-options", "a=1", "b=2"], ["a=1", "b=2"]),
        (["--cfg-options", "a=1", "--cfg-options", "b=2"], ["a=1", "b=2"]),
    ],
)
def test_options_of_the_config_add_up_and_leave_nothing_behind(
    options: list[str], expected: list[str]
) -> None:
    parser = cli.build_parser()
    assert parser.parse_args(["train", LORA, *options]).cfg_options == expected
    assert parser.parse_args(["train", LORA]).cfg_options == []


@pytest.mark.parametrize(
    ("options", "expected"), [([], None), (["--resume"], ""), (["--resume", "runs/a"], "runs/a")]
)
def test_resume_is_off_or_the_newest_or_a_path(options: list[str], expected: str | None) -> None:
    assert cli.build_parser().parse_args(["train", LORA, *options]).resume == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (XftError("what, where, fix"), 1),
        (ConfigError("what, where, fix"), 2),
        (DataError("what, where, fix"), 3),
        (TemplateError("what, where, fix"), 3),
        (ModelError("what, where, fix"), 4),
        (CheckpointError("what, where, fix"), 5),
        (TrainingError("what, where, fix"), 6),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_its_exit_code(
    error: XftError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_error(monkeypatch, error)
    assert cli.main(["check", LORA]) == code
    captured = capsys.readouterr()
    assert captured.err == "error: what, where, fix\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    "error", [MemoryError(), ImportError("libtorch_cpu.so: failed to map segment from shared object")]
)
def test_exhausted_memory_is_one_line_with_what_helps(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_error(monkeypatch, error)
    assert cli.main(["check", LORA]) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: out of memory; ")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("rank", "error", "said"),
    [
        ("0", DataError("row 7"), "error: row 7\n"),
        ("3", DataError("row 7"), "error: rank 3: row 7\n"),
        ("3", TrainingError("rank 1 is gone"), "error: rank 1 is gone\n"),
    ],
)
def test_a_mistake_of_a_later_rank_says_whose_it_is(
    rank: str,
    error: XftError,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_error(monkeypatch, error, "train")
    monkeypatch.setenv("SLURM_PROCID", rank)
    assert cli.main(["train", LORA, "--launcher", "slurm"]) == error.exit_code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [ConfigError("mine"), KeyboardInterrupt()])
def test_debug_shows_the_traceback(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_error(monkeypatch, error)
    with pytest.raises(type(error)):
        cli.main(["check", LORA, "--debug"])


def test_a_fault_of_ours_is_one_line_and_keeps_its_traceback_for_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_error(monkeypatch, ZeroDivisionError("ours"))
    assert cli.main(["check", LORA]) == 1
    assert capsys.readouterr().err == "error: ZeroDivisionError: ours (--debug shows the traceback)\n"
    with pytest.raises(ZeroDivisionError, match="ours"):
        cli.main(["check", LORA, "--debug"])


def test_ctrl_c_ends_with_130_and_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_error(monkeypatch, KeyboardInterrupt())
    assert cli.main(["check", LORA]) == 130
    assert capsys.readouterr().err.split() == ["interrupted"]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["check", "nope.py"], "no file 'nope.py'"),
        (["check", "."], "'.' is a folder; expected a Python config file"),
        (["check", "qwen3_8b", "--method", "sft"], "--method: got 'sft'; expected a method"),
        (["check", LORA, "--method", "lora"], "expected a shipped model, since --method is given"),
        (["train", "a/smollm2_lora.py"], "`xft copy smollm2_lora` writes it here"),
        (["check", LORA, "--cfg-options", "dat.path=x"], "dat is not in the config; did you mean 'data'"),
        (["check", LORA, "--cfg-options", "seed"], "got 'seed'; expected KEY=VALUE"),
        (["list", "formatz"], "unknown kind 'formatz'; did you mean"),
        (["copy", "smolm2_lora"], "unknown config 'smolm2_lora'"),
        (["train", "nope.py"], "no file 'nope.py'"),
        (["train", LORA, "--cfg-options", "seed=x"], "seed: got 'x'; expected int"),
        (
            ["train", LORA, "--cfg-options", "training.micro_batch_size=0"],
            "got 0; expected int in [1, 1e9]",
        ),
        (["train", LORA, "--cfg-options", "data.path=no_rows.jsonl"], "no_rows.jsonl"),
        (["train", LORA, "--deepspeed", "zero4"], "got 'zero4'; expected zero1, zero2"),
        (["inspect-data", "nope.py"], "no file 'nope.py'"),
        (["chat", "run", "--max-new-tokens", "0"], "--max-new-tokens: got 0; expected at least 1"),
        (["chat", "run", "--temperature", "-1"], "--temperature: got -1.0; expected at least 0"),
    ],
)
def test_a_wrong_request_ends_with_2_says_so_and_makes_nothing(
    argv: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert complaint in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["\033]0;title\007.py", "\u202eyp.x", "a\rb.py", "a\udcff.py"])
def test_error_escapes_control_characters_of_a_file_name(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.rstrip("\n").isprintable()


def test_error_of_the_parser_escapes_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["list", "keys", "\033[2Jhidden"])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "hidden" in err
    assert "\033" not in err


def test_interrupt_before_the_command_begins_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_parser", interrupted)
    assert cli.main(["list"]) == cli.INTERRUPTED
    assert capsys.readouterr().err == "\ninterrupted\n"
    with pytest.raises(KeyboardInterrupt):
        cli.main(["list", "--debug"])


def test_method_and_data_become_config_and_override(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1").mkdir()
    pairs = tmp_path / "1" / "pairs.jsonl"
    pairs.write_text('{"prompt": "Hi", "chosen": "Hello", "rejected": "No"}\n')
    assert cli.main(["check", "qwen3_8b", "--method", "orpo", "--data", str(pairs)]) == 0
    assert "qwen3_8b_orpo: all keys are known" in capsys.readouterr().out
