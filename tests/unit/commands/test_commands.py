"""What each command of the command line does with what was typed."""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xft import cli
from xft.data import DataReport, PreparedData
from xft.types import Sample
from xft.utils import console

ROOT = Path(__file__).resolve().parents[3]
LORA = str(ROOT / "configs" / "smollm2_lora.py")
LEAVES = sorted((ROOT / "configs").glob("*.py"))


@pytest.fixture(autouse=True)
def _process_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command changes the search path, the terminal's handler and the levels of libraries."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(console.LOGGER, "handlers", list(console.LOGGER.handlers))
    monkeypatch.setattr(console.LOGGER, "propagate", console.LOGGER.propagate)
    monkeypatch.setattr(console.LOGGER, "level", console.LOGGER.level)
    monkeypatch.setattr(console, "silence_libraries", lambda: None)


def test_own_components_are_found_where_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_for_cli.py").write_text(
        "def rows(row, column: str):\n    return []\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_for_cli", raising=False)
    option = "data.format={'type': 'own_for_cli.rows', 'column': 'a'}"
    assert cli.main(["check", LORA, "--cfg-options", option]) == 0
    assert cli.main(["check", LORA, "--cfg-options", option.replace("'column'", "'colum'")]) == 2
    assert "data.format.colum: unknown key; did you mean 'column'" in capsys.readouterr().err


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda file: file.stem)
def test_every_shipped_config_passes_check(leaf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(leaf)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{leaf}: all keys are known and all values have the right type\n"
    assert captured.err == ""


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


def test_check_reports_all_mistakes_with_near_names(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["data.max_lenght=3", "seed=x", "adapter.r=many", "trainin=1"]
    assert cli.main(["check", LORA, "--cfg-options", *options]) == 2
    err = capsys.readouterr().err
    assert err.splitlines()[0] == f"error: {LORA}: 4 mistakes"
    assert "data.max_lenght: unknown key; did you mean 'max_length'" in err
    assert "seed: got 'x'; expected int" in err
    assert "adapter.r: got 'many'; expected int" in err
    assert "trainin: unknown key; did you mean 'training'?" in err
    assert "Traceback" not in err


def test_check_takes_a_new_hook_and_a_new_logger_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "hooks.early_stopping.type=early_stopping",
        "hooks.early_stopping.patience=2",
        "loggers.tensorboard.type=tensorboard",
        "hooks.sample_generation=none",
    ]
    assert cli.main(["check", LORA, "--cfg-options", *options]) == 0
    wrong = [*options[:1], "hooks.early_stopping.patiense=2"]
    assert cli.main(["check", LORA, "--cfg-options", *wrong]) == 2
    assert "hooks.early_stopping.patiense: unknown key; did you mean 'patience'?" in capsys.readouterr().err


def test_list_prints_the_configs_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        each.stem for each in LEAVES
    ]


def test_list_prints_a_kind_of_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "formats"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert listed == sorted(listed)
    assert {"alpaca", "openai", "sharegpt", "text", "xtuner"} <= set(listed)


def test_copy_writes_a_config_that_check_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["copy", "smollm2_lora"]) == 0
    assert (tmp_path / "smollm2_lora.py").is_file()
    assert "smollm2_lora.py" in capsys.readouterr().out
    assert cli.main(["check", "smollm2_lora.py"]) == 0
    assert cli.main(["copy", "smollm2_lora"]) == 2
    assert "exists" in capsys.readouterr().err


def test_train_hands_on_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    from xft.training import train as module

    seen: list[module.TrainOptions] = []
    monkeypatch.setattr(module, "train", seen.append)
    assert cli.main(["train", "c.py"]) == 0
    argv = ["train", "c.py", "--work-dir", "w", "--resume", "--seed", "3", "--launcher", "pytorch"]
    assert cli.main([*argv, "--cfg-options", "a=1"]) == 0
    assert seen[0] == module.TrainOptions(config="c.py")
    assert seen[1] == module.TrainOptions(
        config="c.py", work_dir="w", overrides=["a=1"], resume="", seed=3, launcher="pytorch"
    )


def test_convert_hands_on_what_was_typed_and_says_what_was_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from xft import export

    seen: list[tuple[Any, ...]] = []

    def convert(source: str, out: str, **options: Any) -> float:
        seen.append((source, out, options))
        return 0.5

    monkeypatch.setattr(export, "convert", convert)
    assert (
        cli.main(["convert", "run", "out", "--merge", "--dtype", "float16", "--max-shard-size", "1GB"]) == 0
    )
    assert seen == [
        (
            "run",
            "out",
            {
                "merged": True,
                "dtype": "float16",
                "max_shard_size": "1GB",
                "trust_remote_code": False,
                "gguf": None,
            },
        )
    ]
    line = capsys.readouterr().out
    assert "merged model to out" in line
    assert "0.5" in line


class FakeSession:
    def __init__(self) -> None:
        self.history: list[str] = []

    def ask_once(self, prompt: str) -> str:
        return f"{prompt.upper()}!"


def test_chat_answers_each_prompt_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from xft import serving

    seen: list[dict[str, Any]] = []

    def open_session(path: str, **options: Any) -> FakeSession:
        seen.append({"path": path, **options})
        return FakeSession()

    def chat_loop(session: FakeSession) -> None:
        raise AssertionError("a prompt was given")

    monkeypatch.setattr(serving, "open_session", open_session)
    monkeypatch.setattr(serving, "chat_loop", chat_loop)
    assert (
        cli.main(["chat", "run", "--system", "Be brief.", "--load-in-bits", "4", "--prompt", "hi", "bye"])
        == 0
    )
    assert capsys.readouterr().out == "HI!\nBYE!\n"
    assert seen == [
        {
            "path": "run",
            "adapter": None,
            "bits": 4,
            "system": "Be brief.",
            "max_new_tokens": 512,
            "temperature": 0.0,
            "trust_remote_code": False,
        }
    ]


class Letters:
    """A tokenizer of one letter a token: 0 is a, 1 is b."""

    def decode(self, token_ids: list[int], **_: object) -> str:
        return "".join(chr(ord("a") + each) for each in token_ids)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Two training samples and one to validate on, in place of a config's; what was asked for."""
    from xft.reporting import inspect_samples

    def sample(ids: list[int], labels: list[int]) -> Sample:
        return Sample(np.array(ids, np.int32), np.array(labels, np.int32), Letters().decode(ids))

    train = [sample([0, 1, 2], [-100, 1, 2]), sample([3, 4], [-100, 4])]
    val = [sample([5, 6], [-100, 6])]
    asked: list[tuple[str, list[str]]] = []

    def prepare(config: str, overrides: list[str], safe_config: bool) -> tuple[PreparedData, Letters, None]:
        asked.append((config, overrides))
        counts: Counter[str] = Counter()
        report = DataReport(rows_read=3, rows_train=2, rows_val=1, rows_dropped=counts)
        return PreparedData(train, val, report), Letters(), None

    monkeypatch.setattr(inspect_samples, "prepare", prepare)
    return asked


def test_inspect_data_prints_an_object_a_sample(
    prepared: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect-data", "c.py", "--json", "--cfg-options", "a=1"]) == 0
    assert prepared == [("c.py", ["a=1"])]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"input_ids": [0, 1, 2], "labels": [-100, 1, 2], "text": "abc"},
        {"input_ids": [3, 4], "labels": [-100, 4], "text": "de"},
    ]


def test_inspect_data_marks_what_is_trained_without_colour_in_a_pipe(
    prepared: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect-data", "c.py", "--num", "1"]) == 0
    out = capsys.readouterr().out
    assert "a[[bc]]" in out
    assert "d[[e]]" not in out
    assert "\033" not in out
    assert re.search(r"\b3 rows read", out)
    assert re.search(r"\b2 train", out)
    assert re.search(r"\b1 val", out)


def test_inspect_data_shows_the_validation_rows_when_asked(
    prepared: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect-data", "c.py", "--split", "val"]) == 0
    out = capsys.readouterr().out
    assert "f[[g]]" in out
    assert "a[[bc]]" not in out
