"""Making and reading DeepSpeed's JSON config."""

import os
from pathlib import Path

import pytest

from xft.errors import ConfigError
from xft.strategies.deepspeed.config import load_config, stage_of


def test_load_config_unusable_file_raises(tmp_path: Path) -> None:
    missing, broken, array = (str(tmp_path / name) for name in ("none.json", "broken.json", "array.json"))
    Path(broken).write_text("{'a': 1}")
    Path(array).write_text("[]")
    for path, got in ((missing, missing), (broken, broken), (array, "list")):
        with pytest.raises(ConfigError) as error:
            load_config(None, "none", path)
        assert (error.value.key, error.value.got) == ("strategy.config_file", got)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_load_config_irregular_file_raises(tmp_path: Path, kind: str) -> None:
    """Reading a pipe would never end."""
    path = tmp_path / "ds.json"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(ConfigError) as error:
        load_config(None, "none", str(path))
    assert (error.value.key, error.value.got) == ("strategy.config_file", str(path))


def test_load_config_file_and_stage_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(2, "none", str(tmp_path / "a.json"))
    assert error.value.key == "strategy"


def test_stage_of_unknown_stage_raises() -> None:
    with pytest.raises(ConfigError) as error:
        stage_of({"zero_optimization": {"stage": 4}})
    assert (error.value.key, error.value.got) == ("zero_optimization.stage", 4)
