"""What to load, which values to override, and options of other tools."""

from argparse import Namespace
from pathlib import Path

import pytest

from xft import cli
from xft.commands.options import explain_option, resolve_options
from xft.errors import ConfigError
from xft.utils import paths

pytestmark = pytest.mark.usefixtures("empty_config")


def resolved(*words: str) -> Namespace:
    arguments: Namespace = cli.build_parser().parse_args(["check", *words])
    resolve_options(arguments)
    return arguments


@pytest.mark.parametrize(
    ("words", "config", "overrides"),
    [
        ("c.py", "c.py", []),
        ("c.py a=1 b.c=[x,y]", "c.py", ["a=1", "b.c=[x,y]"]),
        ("a=1 c.py", "c.py", ["a=1"]),
        ("--safe-config c.py a=1", "c.py", ["a=1"]),
        ("c.py a=1 --safe-config b=2", "c.py", ["a=1", "b=2"]),
        ("c.py --cfg-options a=1 b=2", "c.py", ["a=1", "b=2"]),
        ("c.py a=1 --cfg-options b=2", "c.py", ["a=1", "b=2"]),
        ("c.py --safe_config --data r.csv", "c.py", ["data.path='r.csv'"]),
        ("qwen3_8b", "qwen3_8b", []),
        ("qwen3_8b --method orpo", "qwen3_8b_orpo", []),
    ],
)
def test_config_and_overrides_in_any_order(words: str, config: str, overrides: list[str]) -> None:
    arguments = resolved(*words.split())
    assert (arguments.config, arguments.cfg_options) == (config, overrides)


def test_a_file_with_an_equals_sign_is_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lr=1.py").touch()
    monkeypatch.chdir(tmp_path)
    assert resolved("lr=1.py").config == "lr=1.py"


@pytest.mark.parametrize("config", ["smollm2_lora", "qwen3_8b", str(paths.configs() / "smollm2_dpo.py")])
def test_rows_in_place_of_shipped_ones_have_a_split_and_questions_of_their_own(config: str) -> None:
    """Those of a shipped config fit its own rows."""
    arguments = cli.build_parser().parse_args(["train", config, "--data", "r.csv", "data.val_split=7"])
    resolve_options(arguments)
    assert arguments.cfg_options == [
        *("data.path='r.csv'", "data.val_split=auto", "eval_prompts=val_rows"),
        "data.val_split=7",
    ]


def test_rows_in_place_of_those_of_an_own_config_keep_its_split(tmp_path: Path) -> None:
    (tmp_path / "smollm2_lora.py").touch()
    arguments = cli.build_parser().parse_args(
        ["train", str(tmp_path / "smollm2_lora.py"), "--data", "r.csv"]
    )
    resolve_options(arguments)
    assert arguments.cfg_options == ["data.path='r.csv'"]


@pytest.mark.parametrize("words", ["", "a=1", "a.py b.py"])
def test_not_exactly_one_config_is_an_error(words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(*words.split())
    assert caught.value.key == "CONFIG"


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("--learning_rate", "1e-4", "optimizer.lr=1e-4"),
        ("--learning_rate=1e-4", "", "optimizer.lr=1e-4"),
        ("--per-device-train-batch-size", "4", "training.micro_batch_size=4"),
        ("--gradient_checkpointing", "--bf16", "model.gradient_checkpointing=True"),
        ("--num_train_epochs", "3", "training.epochs=3"),
        ("--epochs", "3", "training.epochs=3"),
        ("--data.max_length", "9", "data.max_length=9"),
        ("--output_dir", "o", "--work-dir"),
        ("--resume_from_checkpoint", "o", "--resume"),
        ("--model_name_or_path", "m", "--model"),
        ("--train_file", "f", "--data"),
        ("--dry-runs", "", "--dry-run"),
    ],
)
def test_options_of_other_tools_name_those_of_xft(option: str, value: str, advice: str) -> None:
    assert advice in explain_option(option, value, ["--dry-run", "--seed"])


def test_unknown_options_end_in_usage_and_name_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", "smollm2_lora", "--learning_rate", "1e-4", "--lora_r", "8"])
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert "optimizer.lr=1e-4" in message
    assert "adapter.r=8" in message


def test_words_are_refused_by_commands_without_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["report", "run", "other"])
    assert "other" in capsys.readouterr().err
