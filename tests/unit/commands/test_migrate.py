from pathlib import Path

import pytest

from xft import cli
from xft.config import load_config

TRL = "model_name_or_path: org/model\ndataset_name: org/rows\nloss_type: ipo\npush_to_hub: true\n"


def test_import_writes_a_config_and_prints_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dpo.yaml").write_text(TRL)
    assert cli.main(["import", "dpo.yaml"]) == 0
    assert load_config(tmp_path / "dpo.py")["objective"] == {"type": "dpo", "loss": "ipo"}
    out = capsys.readouterr().out
    assert "taken over:" in out
    assert "without counterpart:\n  push_to_hub" in out


def test_an_existing_file_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dpo.yaml").write_text(TRL)
    (tmp_path / "dpo.py").write_text("mine")
    assert cli.main(["import", "dpo.yaml"]) == 2
    assert (tmp_path / "dpo.py").read_text() == "mine"
    assert "dpo.py" in capsys.readouterr().err
