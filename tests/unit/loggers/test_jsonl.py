"""Records: neither gaps nor doubles after a resume, and a full disk loses none."""

import errno
import json
import os
from pathlib import Path

import pytest

from xft.loggers import JsonLines


def steps(folder: Path, name: str = "metrics") -> list[int]:
    return [json.loads(each)["step"] for each in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_a_resumed_run_begins_where_the_checkpoint_was(tmp_path: Path) -> None:
    """At the step of the checkpoint, a record was written before it and another after it."""
    first = JsonLines(tmp_path, {})
    for step in (1, 2):
        first.record({"step": step, "split": "train"})
    first.record({"step": 2, "split": "val"})
    first.generations(2, [{"question": "Grüße?"}])
    position = first.checkpoint_position()
    first.record({"step": 2, "split": "late"})
    first.record({"step": 3, "split": "train"})
    first.generations(3, [{"question": "?"}])
    first.close()
    with (tmp_path / "metrics.jsonl").open("ab") as out:
        out.write('{"step": 4, "split": "ü'.encode()[:-1])  # killed in the middle of a character
    second = JsonLines(tmp_path, {}, resume_step=2)
    second.truncate_to_step(position)
    second.record({"step": 3, "split": "train"})
    assert second.checkpoint_position()["metrics"] == (tmp_path / "metrics.jsonl").stat().st_size
    second.close()
    lines = [json.loads(each) for each in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(each["step"], each["split"]) for each in lines] == [
        (1, "train"),
        (2, "train"),
        (2, "val"),
        (3, "train"),
    ]
    assert steps(tmp_path, "generations") == [2]


def test_a_figure_that_is_not_finite_is_null(tmp_path: Path) -> None:
    """A step that is left out has no gradient: NaN and Infinity are not JSON (RFC 8259, section 6)."""
    logger = JsonLines(tmp_path, {})
    logger.record({"step": 1, "grad_norm": float("nan"), "loss": float("inf"), "lr": 0.5})
    logger.close()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=refuse) == {
        "step": 1,
        "grad_norm": None,
        "loss": None,
        "lr": 0.5,
    }


def test_a_file_that_another_hand_was_at_is_said_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("xft.utils.console.info", said.append)
    first = JsonLines(tmp_path, {})
    first.record({"step": 1, "split": "train"})
    position = first.checkpoint_position()
    first.close()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    second = JsonLines(tmp_path, {}, resume_step=1)
    second.truncate_to_step(position)
    second.close()
    assert steps(tmp_path) == [1]
    assert len(said) == 1
    assert "metrics.jsonl was modified since the checkpoint" in said[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_lines_wait_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write to /dev/full fails as one to a full disk does; then there is room again."""
    said: list[str] = []
    monkeypatch.setattr("xft.utils.console.info", said.append)
    logger = JsonLines(tmp_path, {})
    lines = logger._files["metrics"]
    kept = os.dup(lines._file.fileno())
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, lines._file.fileno())
    for step in (1, 2):
        logger.record({"step": step, "split": "train"})
    with pytest.raises(OSError, match="not written yet") as caught:
        logger.flush()
    assert caught.value.errno == errno.ENOSPC
    assert len(said) == 1
    assert "No space left on device" in said[0]
    os.dup2(kept, lines._file.fileno())
    logger.record({"step": 3, "split": "train"})
    logger.flush()
    logger.close()
    os.close(kept)
    os.close(full)
    assert steps(tmp_path) == [1, 2, 3]


def test_file_of_rollouts_is_kept_if_there_are_any(tmp_path: Path) -> None:
    for rows in ([], [{"prompt": "?"}]):
        logger = JsonLines(tmp_path, {})
        logger.rollouts(1, rows)
        logger.close()
        logger.close()
        assert (tmp_path / "rollouts.jsonl").is_file() == bool(rows)
