"""A config from a stranger, read as data: nothing of it is run or imported."""

from pathlib import Path

import pytest

from xft.cli import main
from xft.config import dump_config, load_config
from xft.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.py"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda each: each.stem)
def test_safe_load_reads_the_config_of_a_run(config: Path, tmp_path: Path) -> None:
    """The dump of every shipped config, read in both ways."""
    values = load_config(config)
    dumped = tmp_path / "config.py"
    dump_config(values, dumped)
    assert load_config(dumped, safe_config=True) == load_config(dumped) == values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import pathlib\npathlib.Path({marker!r}).touch()\n", ["line 1 would", "line 2 would"]),
        ("seed = __import__('pathlib').Path({marker!r}).touch()\n", ["line 1 would have to be executed"]),
        ("seed = 1 if open({marker!r}, 'w') else 2\n", ["line 1 would have to be executed"]),
        ("a = b = 1\n", ["line 1 would have to be executed; expected NAME = a literal"]),
        ("data['path'] = 1\n", ["line 1 would have to be executed"]),
        ("objective = 'subprocess.Popen'\n", ["objective: 'subprocess.Popen' would be imported"]),
        ("hooks = list(a=1)\n", ["line 1 would have to be executed"]),
        ("hooks = {{'a': {{'type': 'os.system', 'command': 'true'}}}}\n", ["hooks.a.type: 'os.system'"]),
        ("hooks = {{'a': 'os.system'}}\n", ["hooks.a: 'os.system' would be imported"]),
        ("data = {{'datasets': [{{'type': 'os.system'}}]}}\n", ["data.datasets.0.type: 'os.system'"]),
        ("model = {{'trust_remote_code': True}}\n", ["model.trust_remote_code: would run code"]),
        (
            "model = {{'attn_implementation': 'someone/kernel'}}\n",
            ["model.attn_implementation: 'someone/kernel'"],
        ),
        ("loggers = {{'mlflow': {{'uri': 'http://a.b'}}}}\n", ["loggers.mlflow.uri: would send data"]),
        ("a = open\n" * 3000, ["line 1 would", "and 2980 more"]),
    ],
)
def test_safe_load_of_code_raises(tmp_path: Path, text: str, expected: list[str]) -> None:
    marker = tmp_path / "the_code_was_run"
    file = tmp_path / "config.py"
    file.write_text(text.format(marker=str(marker)))
    with pytest.raises(ConfigError) as caught:
        load_config(file, safe_config=True)
    for each in expected:
        assert each in str(caught.value)
    assert not marker.exists()


def test_who_types_the_command_may_name_what_they_like(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text('"""Plain."""\nobjective = "sft"\n_helper = 1\n')
    assert load_config(file, {"objective": "mine.loss"}, safe_config=True) == {"objective": "mine.loss"}


def test_command_with_safe_config_executes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.py"
    file.write_text("import os\n")
    for command in ("train", "check", "prepare-data", "inspect-data"):
        assert main([command, str(file), "--safe-config"]) == 2
        assert "line 1 would have to be executed" in capsys.readouterr().err
