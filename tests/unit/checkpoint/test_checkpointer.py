"""Checkpoints are saved in a thread, reported once, and restore the run bit for bit."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.strategies import tiny_strategy, train_steps

from xft.checkpoint import writer
from xft.checkpoint.checkpointer import Checkpointer
from xft.checkpoint.directory import corruption_of
from xft.checkpoint.resume_state import RunState, read_resume_state
from xft.checkpoint.writer import AsyncCheckpointWriter, SaveResult
from xft.errors import CheckpointError, ConfigError
from xft.strategies import SingleDevice


def state(step: int) -> RunState:
    return RunState(step, 10 * step, None, "abc", {"world_size": 1}, {"seed": 1}, {}, {})


def make_checkpointer(
    strategy: SingleDevice, folder: Path, before_write: Callable[[], None] = lambda: None
) -> Checkpointer:
    root = folder / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    return Checkpointer(root, strategy, lambda: {"card.md": b"text"}, before_write)


@pytest.fixture
def strategy(tmp_path: Path) -> SingleDevice:
    return tiny_strategy(tmp_path / "run")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end at the latest, so that no thread is left waiting."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_save_and_load_continue_bit_equal(tmp_path: Path, strategy: SingleDevice) -> None:
    checkpointer = make_checkpointer(strategy, tmp_path)
    train_steps(strategy, 3)
    checkpointer.save(state(3), save_total_limit=2, is_best=True)
    expected = train_steps(strategy, 2)  # training continues while the copy is written
    checkpointer.wait()
    assert checkpointer.poll() == SaveResult(3)
    assert checkpointer.poll() is None
    folder = checkpointer.root / "step_3"
    assert corruption_of(folder) is None
    assert (folder / "card.md").read_bytes() == b"text"
    assert os.readlink(checkpointer.root / "best") == "step_3"

    other = tiny_strategy(tmp_path / "other", seed=1)
    resumed = read_resume_state(folder)
    make_checkpointer(other, tmp_path / "other").load(resumed)
    assert (resumed.step, resumed.tokens_seen, resumed.config) == (3, 30, {"seed": 1})
    assert all(map(torch.equal, train_steps(other, 2), expected))
    assert other.lr_scheduler.get_last_lr() == strategy.lr_scheduler.get_last_lr()


def test_save_waits_for_the_save_in_progress_before_it_copies(
    tmp_path: Path, strategy: SingleDevice, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second copy overwrites the memory of the first."""
    checkpointer = make_checkpointer(strategy, tmp_path, lambda: assert_set(gate))
    expected = train_steps(strategy, 1)
    checkpointer.save(state(1), save_total_limit=9)
    train_steps(strategy, 1)
    wait = AsyncCheckpointWriter.wait

    def open_and_wait(self: AsyncCheckpointWriter) -> None:
        gate.set()
        wait(self)

    monkeypatch.setattr(AsyncCheckpointWriter, "wait", open_and_wait)
    checkpointer.save(state(2), save_total_limit=9, block=True)
    assert [checkpointer.poll(), checkpointer.poll()] == [SaveResult(1), SaveResult(2)]
    other = tiny_strategy(tmp_path / "other", seed=1)
    make_checkpointer(other, tmp_path).load(read_resume_state(checkpointer.root / "step_1"))
    assert all(map(torch.equal, other.model.parameters(), expected))


def assert_set(gate: threading.Event) -> None:
    assert gate.wait(30)


def test_save_failure_is_polled(tmp_path: Path, strategy: SingleDevice) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    checkpointer = make_checkpointer(strategy, tmp_path, fail)
    checkpointer.save(state(1), save_total_limit=1, block=True)
    result = checkpointer.poll()
    assert result is not None
    assert (result.step, result.reason) == (1, "[Errno 28] No space left on device")
    assert list(checkpointer.root.iterdir()) == []


def test_close_cancel_publishes_nothing(
    tmp_path: Path, strategy: SingleDevice, gate: threading.Event
) -> None:
    checkpointer = make_checkpointer(strategy, tmp_path, lambda: assert_set(gate))
    checkpointer.save(state(1), save_total_limit=1)
    checkpointer.close(cancel=True)
    gate.set()
    checkpointer.wait()
    assert list(checkpointer.root.iterdir()) == []


def test_load_without_optimizer_state_raises(tmp_path: Path, strategy: SingleDevice) -> None:
    checkpointer = make_checkpointer(strategy, tmp_path)
    checkpointer.save(state(1), save_total_limit=1, save_optimizer_state=False, block=True)
    with pytest.raises(CheckpointError) as error:
        checkpointer.load(read_resume_state(checkpointer.root / "step_1"))
    assert error.value.expected == "optimizer state"


@pytest.mark.parametrize("name", ["model.safetensors", "training_state.safetensors"])
def test_load_broken_file_raises_with_the_folder(tmp_path: Path, strategy: SingleDevice, name: str) -> None:
    checkpointer = make_checkpointer(strategy, tmp_path)
    checkpointer.save(state(1), save_total_limit=1, block=True)
    folder = checkpointer.root / "step_1"
    (folder / name).write_bytes(b"x")
    with pytest.raises(CheckpointError) as error:
        checkpointer.load(read_resume_state(folder))
    assert error.value.key == str(folder)


def test_check_disk_space_too_little_raises(
    tmp_path: Path, strategy: SingleDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = make_checkpointer(strategy, tmp_path)
    checkpointer.check_disk_space(save_total_limit=2, save_optimizer_state=True)
    usage = writer.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ConfigError) as error:
        checkpointer.check_disk_space(save_total_limit=2, save_optimizer_state=True)
    assert error.value.key == "hooks.checkpoint"
