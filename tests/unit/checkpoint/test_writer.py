"""Checkpoints are written one at a time, verified before they appear, and no error ends a run."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_config
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from xft.checkpoint import directory, manifest, writer
from xft.checkpoint.model_weights import make_weights_writer
from xft.checkpoint.resume_state import RunState
from xft.checkpoint.snapshot import Snapshot
from xft.checkpoint.writer import (
    AsyncCheckpointWriter,
    SaveRequest,
    check_disk_space,
    check_disk_space_for_run,
    write_checkpoint,
)
from xft.errors import CheckpointError, ConfigError


def request(
    root: Path,
    step: int,
    save_total_limit: int = 2,
    is_best: bool = False,
    before_write: Callable[[], None] = int,
) -> SaveRequest:
    """A request whose weights can be told from those of other steps."""
    root.mkdir(exist_ok=True)
    weights = {"w": torch.full((1000,), float(step))}
    writer = make_weights_writer(get_peft_model(llama(), LORA))
    run = RunState(step, 0, None, "", {}, {}, {}, {})
    files = {"metadata.json": b"{}"}
    snapshot = Snapshot(run, {}, [], {"t": torch.zeros(3)}, weights, files, writer)
    return SaveRequest(snapshot, root, save_total_limit, is_best, before_write)


LORA = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")


def llama(**options: Any) -> Any:
    torch.manual_seed(0)
    config = tiny_config("llama", 50)
    for name, value in options.items():
        setattr(config, name, value)
    return AutoModelForCausalLM.from_config(config)


def names(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir())


def test_write_checkpoint_updates_symlinks_and_prunes(tmp_path: Path) -> None:
    root = tmp_path / "c"
    for step in (2, 4, 6, 8):
        write_checkpoint(request(root, step, is_best=step == 4))
    assert names(root) == ["best", "last", "step_4", "step_6", "step_8"]
    assert (os.readlink(root / "last"), os.readlink(root / "best")) == ("step_8", "step_4")
    assert directory.corruption_of(root / "step_8") is None
    assert torch.equal(
        load_file(root / "step_8" / "adapter_model.safetensors")["w"], torch.full((1000,), 8.0)
    )


def test_write_checkpoint_disk_returns_other_content_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit is flipped between writing and reading, as by a bad disk."""
    root = tmp_path / "c"
    write_checkpoint(request(root, 2, save_total_limit=1))
    write = manifest.write_manifest

    def write_and_flip(folder: Path, verified: Any) -> None:
        write(folder, verified)
        file = folder / "adapter_model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)

    monkeypatch.setattr(manifest, "write_manifest", write_and_flip)
    with pytest.raises(CheckpointError) as error:
        write_checkpoint(request(root, 4, save_total_limit=1))
    assert error.value.key == "step_4"
    assert "adapter_model.safetensors" in str(error.value.got)
    assert names(root) == ["last", "step_2"]  # the previous one is intact, and nothing partial remains


def test_writer_failed_save_is_polled_and_the_next_succeeds(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    saver = AsyncCheckpointWriter()
    saver.start(request(tmp_path / "c", 2, before_write=fail))
    saver.wait()
    failed = saver.poll()
    assert failed is not None
    assert (failed.step, failed.reason) == (2, "[Errno 28] No space left on device")
    assert saver.poll() is None
    saver.start(request(tmp_path / "c", 4))
    saver.wait()
    saved = saver.poll()
    assert saved is not None
    assert (saved.step, saved.error) == (4, None)
    assert names(tmp_path / "c") == ["last", "step_4"]


def test_writer_start_waits_for_the_save_in_progress(tmp_path: Path) -> None:
    gate, running = threading.Event(), threading.Event()
    under_way = []

    def slow() -> None:
        under_way.append("first")
        running.set()
        gate.wait(30)
        under_way.remove("first")

    saver = AsyncCheckpointWriter()
    saver.start(request(tmp_path / "c", 2, before_write=slow))
    assert running.wait(30)  # start came back while the save still runs
    threading.Timer(0.2, gate.set).start()
    saver.start(request(tmp_path / "c", 4, before_write=lambda: under_way.append("second")))
    saver.wait()
    assert under_way == ["second"]
    assert names(tmp_path / "c") == ["last", "step_2", "step_4"]


def test_writer_cancelled_save_is_not_published(tmp_path: Path) -> None:
    saver = AsyncCheckpointWriter()
    saver.start(request(tmp_path / "c", 2, before_write=saver.cancel))
    saver.wait()
    assert names(tmp_path / "c") == []


LEAVING = """
import atexit, sys, threading, time
from xft.checkpoint.writer import AsyncCheckpointWriter
import torch
begun = threading.Event()
class EndlessRequest:
    step = 1
    def run(self, cancelled):
        numbers = [torch.randn(300, 300) for _ in range(40)]
        while True:
            torch.save(numbers, sys.argv[1])
            torch.load(sys.argv[1])
            numbers[0] @ numbers[1]
            begun.set()
saver = AsyncCheckpointWriter()
saver.start(EndlessRequest())
begun.wait()
saver.cancel()
atexit.register(print, "a logger has ended")
sys.exit(130)
"""


def test_process_exits_cleanly_while_a_cancelled_save_runs(tmp_path: Path) -> None:
    """The thread is within torch's code when the interpreter winds down."""
    command = [sys.executable, "-c", LEAVING, str(tmp_path / "numbers.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (130, "a logger has ended\n"), done.stderr


def test_check_disk_space_too_little_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage._replace(free=3_000_000))
    check_disk_space(tmp_path, 2_800_000)
    with pytest.raises(CheckpointError) as error:
        check_disk_space(tmp_path, 4_000_000)
    assert (error.value.key, error.value.got) == (str(tmp_path), 3_000_000)
    assert error.value.expected.startswith("4.2 MB")
    # save_total_limit=1 needs room for three: 3 x 0.95 MB x 1.05 = 2.99 MB
    check_disk_space_for_run(tmp_path, 950_000, save_total_limit=1)
    with pytest.raises(ConfigError) as config_error:
        check_disk_space_for_run(tmp_path, 950_000, save_total_limit=2)
    assert config_error.value.key == "hooks.checkpoint"
    assert "disk space for 4" in str(config_error.value)
    (tmp_path / "held").write_bytes(bytes(1_000_000))  # what is there already will be pruned
    check_disk_space_for_run(tmp_path, 950_000, save_total_limit=2)
