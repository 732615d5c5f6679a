"""Checkpoints on the disk: damage is recognised, and no kill and no older run misleads."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from xft.checkpoint.directory import damage, find_checkpoint, link, prune, tidy
from xft.checkpoint.manifest import MANIFEST, files_of, seal
from xft.checkpoint.snapshot import STATE, TENSORS
from xft.errors import CheckpointError

STATE_TEXT = {
    "step": 0,
    "tokens_seen": 0,
    "training": {},
    "hooks": {},
    "data_fingerprint": "",
    "batching": {},
    "shards": [],
}


def make(run: Path, *steps: int, best: int | None = None) -> Path:
    """A run folder with sealed checkpoints of these steps, whose state names the best one."""
    for step in steps:
        folder = run / "checkpoints" / f"step_{step}"
        (folder / "deep").mkdir(parents=True)
        hooks = {"checkpoint": {"best_step": best, "best_value": 1.0}}
        (folder / STATE).write_text(json.dumps({**STATE_TEXT, "step": step, "hooks": hooks}))
        (folder / TENSORS).write_bytes(bytes(range(200)))
        (folder / "deep" / "weights").write_bytes(b"weights of " + str(step).encode())
        seal(folder)
    return run


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("xft.utils.console.info", lines.append)
    return lines


def test_the_manifest_has_size_and_sha256_of_every_file(tmp_path: Path) -> None:
    folder = make(tmp_path, 1) / "checkpoints" / "step_1"
    files = files_of(folder)
    assert files.keys() == {STATE, TENSORS, "deep/weights"}
    assert files["deep/weights"] == {
        "size": 12,
        "sha256": hashlib.sha256(b"weights of 1").hexdigest(),
    }
    assert damage(folder) is None


@pytest.mark.parametrize("name", [STATE, TENSORS, "deep/weights", MANIFEST])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "link", "empty"])
def test_any_harm_to_any_file_is_recognised(tmp_path: Path, name: str, harm: str) -> None:
    folder = make(tmp_path, 1) / "checkpoints" / "step_1"
    file = folder / name
    content = file.read_bytes()
    middle = len(content) // 2
    if harm == "flip":
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif harm == "truncate":
        file.write_bytes(content[:-1] if name != MANIFEST else content[:middle])
    elif harm == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    if harm == "link" and name != MANIFEST:
        # The same content, but outside the folder.
        (tmp_path / "outside").write_bytes(content)
        file.symlink_to(tmp_path / "outside")
    found = damage(folder)
    assert found is not None
    assert name in found or name == MANIFEST


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", "", "a\\..\\b"])
def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path, 1) / "checkpoints" / "step_1"
    content = json.loads((folder / MANIFEST).read_text())
    content["files"][name] = {"size": 0, "sha256": ""}
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="outside its folder"):
        files_of(folder)
    assert "outside its folder" in str(damage(folder))


def test_a_folder_of_links_does_not_lead_out_either(tmp_path: Path) -> None:
    folder = make(tmp_path, 1) / "checkpoints" / "step_1"
    os.rename(folder / "deep", tmp_path / "deep")
    (folder / "deep").symlink_to(tmp_path / "deep")
    assert "deep/weights is no ordinary file" in str(damage(folder))


def test_a_manifest_that_leaves_out_the_state_is_not_enough(tmp_path: Path) -> None:
    folder = tmp_path / "step_3"
    folder.mkdir()
    (folder / STATE).write_text("{}")
    seal(folder)
    assert damage(folder) == f"{MANIFEST} does not name {TENSORS}"


def test_damaged_checkpoints_are_passed_over_with_a_line_each(tmp_path: Path, said: list[str]) -> None:
    run = make(tmp_path, 8, 10, 12)
    (run / "checkpoints" / "step_12" / TENSORS).write_bytes(b"cut")
    (run / "checkpoints" / "step_10" / MANIFEST).unlink()
    assert find_checkpoint(run).name == "step_8"
    assert len(said) == 2
    assert said[0].startswith("warning: step_12 is damaged and passed over: ")
    assert f"{TENSORS} has 3 bytes, expected 200" in said[0]
    assert "step_10" in said[1]


def test_a_damaged_checkpoint_that_is_named_is_refused(tmp_path: Path) -> None:
    run = make(tmp_path, 8, 10)
    link(run / "checkpoints" / "step_10", "last")
    (run / "checkpoints" / "step_10" / STATE).write_text("{}")
    for name in ("step_10", "last"):
        with pytest.raises(CheckpointError, match=rf"--resume: .*{name} is damaged"):
            find_checkpoint(run / "checkpoints" / name)


def test_nothing_good_is_said(tmp_path: Path, said: list[str]) -> None:
    run = make(tmp_path, 8, 10)
    for step in (8, 10):
        (run / "checkpoints" / f"step_{step}" / STATE).unlink()
    with pytest.raises(CheckpointError, match="no good checkpoint; all 2 of them are damaged"):
        find_checkpoint(run)


def test_pruning_keeps_the_newest_and_what_a_link_points_at(tmp_path: Path) -> None:
    root = make(tmp_path, 2, 4, 6, 8, 10) / "checkpoints"
    link(root / "step_10", "last")
    link(root / "step_4", "best")
    prune(root, keep=2)
    assert sorted(each.name for each in root.iterdir()) == ["best", "last", "step_10", "step_4", "step_8"]


def test_what_is_newer_than_the_checkpoint_that_a_run_goes_on_from_is_set_aside(
    tmp_path: Path, said: list[str]
) -> None:
    run = make(tmp_path, 4, 6, 8, 10, best=4)
    root = run / "checkpoints"
    link(root / "step_10", "last")
    link(root / "step_8", "best")
    tidy(run, root / "step_6")
    assert sorted(each.name for each in root.iterdir()) == ["best", "last", "step_4", "step_6"]
    assert (os.readlink(root / "last"), os.readlink(root / "best")) == ("step_6", "step_4")
    assert sorted(each.name for each in (run / "superseded").iterdir()) == ["step_10", "step_8"]
    assert len(said) == 2
    assert find_checkpoint(run).name == "step_6"


def test_a_best_one_that_is_gone_leaves_no_link_to_nothing(tmp_path: Path) -> None:
    run = make(tmp_path, 6, best=2)
    (run / "checkpoints" / "best").symlink_to("step_2")
    tidy(run, run / "checkpoints" / "step_6")
    assert not (run / "checkpoints" / "best").is_symlink()


def test_what_a_kill_left_half_done_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    run = make(tmp_path, 2)
    left = ["checkpoints/.step_4.tmp", "checkpoints/.step_1.trash", ".final-abc", ".final.trash"]
    for name in left:
        (run / name).mkdir()
        (run / name / "half").touch()
    (run / "checkpoints" / ".last.tmp").symlink_to("step_2")
    others = [".lock", "notes.txt", "checkpoints/.hidden"]
    for name in others:
        (run / name).touch()
    tidy(run, None)
    assert not any(os.path.lexists(run / name) for name in [*left, "checkpoints/.last.tmp"])
    assert all((run / name).exists() for name in [*others, "checkpoints/step_2"])
