import os
from pathlib import Path

import pytest
from helpers.run_folders import write_run

from xft.errors import ConfigError
from xft.reporting.run_table import find_runs, format_runs


def test_table_has_a_line_for_each_run_and_no_empty_columns(tmp_path: Path) -> None:
    run = {"started_at": "2026-01-02T03:04:05+00:00", "seconds": 75}
    write_run(tmp_path / "runs" / "b", [2.0] * 9, run=run)
    write_run(tmp_path / "runs" / "a", [2.0] * 3, finished=False, plan={"steps": 40})
    (tmp_path / "runs" / "notes").mkdir()
    os.utime(tmp_path / "runs" / "b", (1, 1))
    header, first, second = format_runs([tmp_path / "runs"])
    assert header.split() == ["run", "validation", "time", "steps", "started"]
    assert first.split() == [str(tmp_path / "runs/b"), "4", "→", "2", "1m15s", "9", "2026-01-02", "03:04"]
    assert second.endswith("3 of 40")


def test_a_run_folder_may_be_given_itself(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", [2.0], plan={"steps": 1})
    assert find_runs([run, run]) == [run]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_without_runs_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        find_runs([tmp_path / name])
    assert (caught.value.key, caught.value.got) == ("DIR", str(tmp_path / name))
