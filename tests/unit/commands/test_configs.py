"""``xft check``, ``list``, ``schema`` and ``copy``."""

import json
import sys
from pathlib import Path

import pytest

from xft import cli
from xft.utils.presets import preset_models

ROOT = Path(__file__).resolve().parents[3]
LORA = str(ROOT / "configs" / "smollm2_lora.py")
LEAVES = sorted((ROOT / "configs").glob("*.py"))


def test_check_finds_components_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine_for_cli.py").write_text(
        "def rows(row, column: str):\n    return []\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_for_cli", raising=False)
    option = "data.format={'type': 'mine_for_cli.rows', 'column': 'a'}"
    assert cli.main(["check", LORA, "--cfg-options", option]) == 0
    assert cli.main(["check", LORA, "--cfg-options", option.replace("'column'", "'colum'")]) == 2
    assert "data.format.colum: unknown key; did you mean 'column'" in capsys.readouterr().err


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda file: file.stem)
def test_check_passes_every_shipped_config(leaf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(leaf)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{leaf}: all keys are known and all values have the right type\n"
    assert captured.err == ""


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


def test_check_accepts_a_new_hook_and_a_new_logger_by_name(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_list_without_kind_prints_the_configs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [*(leaf.stem for leaf in LEAVES), *preset_models()]


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


@pytest.mark.parametrize(
    "words",
    [
        ["qwen3_8b", "--method", "orpo", "mine.py"],
        ["--method", "orpo", "qwen3_8b", "mine.py"],
        ["qwen3_8b", "mine.py", "--method", "orpo"],
    ],
)
def test_copy_takes_its_arguments_in_any_order(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["copy", *words]) == 0
    assert "'orpo'" in (tmp_path / "mine.py").read_text(encoding="utf-8").replace('"', "'")
    with pytest.raises(SystemExit):
        cli.main(["copy", *words, "two.py"])


def test_schema_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["type"] == "object"
    assert {"model", "data", "training"} <= set(schema["properties"])


def test_check_safe_config_refuses_to_execute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.py"
    config.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n", encoding="utf-8")
    assert cli.main(["check", str(config), "--safe-config"]) == 2
    assert "line 1 would have to be executed" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()
