"""Checkpoints are saved in a thread, reported once, and restore the run bit for bit."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.strategies import tiny_strategy, train_steps
from helpers.tiny import tiny_config
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from xft.checkpoint import writer
from xft.checkpoint.checkpointer import Checkpointer
from xft.checkpoint.directory import corruption_of
from xft.checkpoint.model_weights import gather_cpu_state_dict
from xft.checkpoint.resume_state import RunState, read_resume_state
from xft.checkpoint.writer import AsyncCheckpointWriter, SaveResult
from xft.errors import CheckpointError, ConfigError
from xft.models import LoRA, TrainingModel
from xft.objectives import next_token
from xft.optim import adamw, build_optimizer
from xft.strategies import FSDP2Config, SingleDevice


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


def test_state_of_the_loop_is_saved_and_returned(tmp_path: Path, strategy: SingleDevice) -> None:
    values = {"metrics": {"reward": 0.1 + 0.2}, "ids": torch.arange(3, dtype=torch.int32)}
    root = tmp_path / "checkpoints"
    root.mkdir()
    states: list[object] = [values, None]
    checkpointer = Checkpointer(root, strategy, dict, lambda: None, lambda: states.pop(0))
    for step in (1, 2):
        checkpointer.save(state(step), save_total_limit=9, block=True)
        assert checkpointer.poll() == SaveResult(step)
    (saved,) = checkpointer.load(read_resume_state(root / "step_1"))
    assert isinstance(saved, dict)
    assert saved["metrics"] == values["metrics"]
    assert saved["ids"].tolist() == [0, 1, 2]
    assert checkpointer.load(read_resume_state(root / "step_2")) == []


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("adapted", [False, True])
def test_weights_of_a_sharded_model_are_saved_as_those_of_one_device(adapted: bool, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(tiny_config("llama", 50))
    saved = LoRA(r=2).apply(model, []) if adapted else model
    expected = {name: tensor.clone() for name, tensor in gather_cpu_state_dict(saved).items()}
    strategy = FSDP2Config(device="cpu").build(str(tmp_path), 0)
    optimizer = build_optimizer(adamw, saved)
    lr_scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    strategy.prepare(TrainingModel(saved, next_token), optimizer=optimizer, lr_scheduler=lr_scheduler)
    checkpointer = make_checkpointer(strategy, tmp_path)
    for save_optimizer_state in (True, False):
        checkpointer.save(state(1), 1, save_optimizer_state=save_optimizer_state, block=True)
        assert checkpointer.poll() == SaveResult(1)
        folder = checkpointer.root / "step_1"
        assert corruption_of(folder) is None
        weights = load_file(folder / ("adapter_model.safetensors" if adapted else "model.safetensors"))
        assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
        assert not list(checkpointer.root.glob(".*"))
    with checkpointer.full_weights() as mapped:
        assert list(mapped) == list(expected)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in mapped.items())
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("process_group")
def test_rank_that_cannot_write_its_weights_ends_the_export_on_all_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_config(tiny_config("llama", 50))
    strategy = FSDP2Config(device="cpu").build(str(tmp_path), 0)
    optimizer = build_optimizer(adamw, model)
    lr_scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    strategy.prepare(TrainingModel(model, next_token), optimizer=optimizer, lr_scheduler=lr_scheduler)
    monkeypatch.setattr(
        strategy, "gather", lambda value: [value, "rank 1 cannot write its weights: disk full"]
    )
    with (
        pytest.raises(CheckpointError, match="rank 1"),
        make_checkpointer(strategy, tmp_path).full_weights(),
    ):
        pass
    assert not list(tmp_path.glob(".*"))
