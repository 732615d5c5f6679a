"""Checkpoint directories: choosing a checkpoint, symlinks, pruning and cleaning up after a kill."""

import json
import os
from pathlib import Path

import pytest

from xft.checkpoint.directory import (
    clean_up,
    corruption_of,
    find_checkpoint,
    move_to_superseded,
    prune,
    replace_folder,
    saved_steps,
    update_symlink,
)
from xft.checkpoint.manifest import MANIFEST, write_manifest
from xft.checkpoint.resume_state import STATE_FILE, TENSORS_FILE, read_resume_state
from xft.errors import CheckpointError

STATE = {
    "step": 0,
    "tokens_seen": 0,
    "stop_reason": None,
    "data_fingerprint": "",
    "batching": {},
    "config": {},
    "hooks": {},
    "loggers": {},
    "training": {},
    "shards": [],
}


def make_run(run: Path, *steps: int, best: int | None = None) -> Path:
    """A run folder with intact checkpoints of these steps, whose state names the best one."""
    for step in steps:
        folder = run / "checkpoints" / f"step_{step}"
        folder.mkdir(parents=True)
        hooks = {"checkpoint": {"best_step": best, "best_value": 1.0}}
        (folder / STATE_FILE).write_text(json.dumps({**STATE, "step": step, "hooks": hooks}))
        (folder / TENSORS_FILE).write_bytes(bytes(range(200)))
        write_manifest(folder)
    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("xft.utils.console.info", lines.append)
    return lines


def test_saved_steps_are_sorted_by_number(tmp_path: Path) -> None:
    assert saved_steps(make_run(tmp_path, 10, 2, 8)) == [2, 8, 10]
    assert saved_steps(tmp_path / "none") == []


@pytest.mark.parametrize("name", [STATE_FILE, TENSORS_FILE])
def test_corruption_of_state_not_in_the_manifest_is_found(tmp_path: Path, name: str) -> None:
    folder = make_run(tmp_path, 3) / "checkpoints" / "step_3"
    assert corruption_of(folder) is None
    (folder / name).unlink()
    write_manifest(folder)
    assert corruption_of(folder) == f"{MANIFEST} does not list {name}"


def test_find_checkpoint_skips_corrupt_ones_with_a_line_each(tmp_path: Path, log: list[str]) -> None:
    run = make_run(tmp_path, 8, 10, 12)
    (run / "checkpoints" / "step_12" / TENSORS_FILE).write_bytes(b"cut")
    (run / "checkpoints" / "step_10" / MANIFEST).unlink()
    assert find_checkpoint(run).name == "step_8"
    assert [line.partition(": ")[2].partition(":")[0] for line in log] == [
        "skipping corrupt checkpoint step_12",
        "skipping corrupt checkpoint step_10",
    ]
    assert f"{TENSORS_FILE} has 3 bytes, expected 200" in log[0]


@pytest.mark.parametrize("name", ["step_10", "last"])
def test_find_checkpoint_named_one_is_corrupt_raises(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path, 8, 10)
    update_symlink(run / "checkpoints" / "step_10", "last")
    (run / "checkpoints" / "step_10" / STATE_FILE).write_text("{}")
    with pytest.raises(CheckpointError) as error:
        find_checkpoint(run / "checkpoints" / name)
    assert error.value.key == "--resume"
    assert str(error.value.got).endswith(name)


def test_find_checkpoint_all_corrupt_raises(tmp_path: Path, log: list[str]) -> None:
    run = make_run(tmp_path, 8, 10)
    for step in (8, 10):
        (run / "checkpoints" / f"step_{step}" / STATE_FILE).unlink()
    with pytest.raises(CheckpointError) as error:
        find_checkpoint(run)
    assert error.value.key == "--resume"
    assert len(log) == 2


def test_find_checkpoint_none_saved_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        find_checkpoint(tmp_path)
    assert error.value.key == "--resume"


def test_prune_keeps_the_newest_and_the_targets_of_symlinks(tmp_path: Path) -> None:
    root = make_run(tmp_path, 2, 4, 6, 8, 10) / "checkpoints"
    update_symlink(root / "step_10", "last")
    update_symlink(root / "step_4", "best")
    prune(root, save_total_limit=2)
    assert names(root) == ["best", "last", "step_10", "step_4", "step_8"]


def test_replace_folder_leaves_only_the_new_folder(tmp_path: Path) -> None:
    for name in ("final", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "new", tmp_path / "final")
    assert (names(tmp_path), names(tmp_path / "final")) == (["final"], ["new"])


def test_move_to_superseded_replaces_an_earlier_checkpoint_of_that_step(tmp_path: Path) -> None:
    for content in ("first", "second"):
        folder = tmp_path / "checkpoints" / "step_2"
        folder.mkdir(parents=True)
        (folder / content).touch()
        target = move_to_superseded(folder)
    assert target == tmp_path / "superseded" / "step_2"
    assert names(target) == ["second"]


def test_clean_up_moves_newer_checkpoints_aside_and_updates_symlinks(
    tmp_path: Path, log: list[str]
) -> None:
    run = make_run(tmp_path, 4, 6, 8, 10, best=4)
    root = run / "checkpoints"
    update_symlink(root / "step_10", "last")
    update_symlink(root / "step_8", "best")
    clean_up(run, read_resume_state(root / "step_6"))
    assert names(root) == ["best", "last", "step_4", "step_6"]
    assert (os.readlink(root / "last"), os.readlink(root / "best")) == ("step_6", "step_4")
    assert names(run / "superseded") == ["step_10", "step_8"]
    assert len(log) == 2
    assert find_checkpoint(run).name == "step_6"


def test_clean_up_checkpoint_of_another_run_moves_nothing(tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "a", 4, 6), make_run(tmp_path / "b", 4)
    clean_up(run, read_resume_state(other / "checkpoints" / "step_4"))
    assert names(run / "checkpoints") == ["step_4", "step_6"]


def test_clean_up_best_checkpoint_is_gone_removes_its_symlink(tmp_path: Path) -> None:
    run = make_run(tmp_path, 6, best=2)
    (run / "checkpoints" / "best").symlink_to("step_2")
    clean_up(run, read_resume_state(run / "checkpoints" / "step_6"))
    assert not (run / "checkpoints" / "best").is_symlink()


def test_clean_up_removes_stale_temporary_folders_and_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path, 2)
    stale = [
        "checkpoints/.step_4.tmp",
        "checkpoints/.step_1.trash",
        "checkpoints/.step_4.17.shards",
        ".final-abc",
        ".final.trash",
    ]
    for name in stale:
        (run / name).mkdir()
        (run / name / "partial").touch()
    (run / "checkpoints" / ".last.tmp").symlink_to("step_2")
    others = [".lock", "notes.txt", "checkpoints/.hidden"]
    for name in others:
        (run / name).touch()
    clean_up(run, None)
    assert not any(os.path.lexists(run / name) for name in [*stale, "checkpoints/.last.tmp"])
    assert all((run / name).exists() for name in [*others, "checkpoints/step_2"])
