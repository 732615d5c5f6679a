"""Saving beside training: one at a time, proven before it is published, and no error ends a run."""

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
from torch import nn
from transformers import AutoModelForCausalLM

from xft.checkpoint import directory, manifest, writer
from xft.checkpoint.model_weights import (
    copy_weights,
    estimate,
    load_weights_into,
    placeholders,
    weights_writer,
)
from xft.checkpoint.snapshot import Snapshot
from xft.checkpoint.writer import Job, Saver, check_free, check_room, format_bytes, write_checkpoint
from xft.errors import CheckpointError, ConfigError


def job(root: Path, step: int, keep: int = 2, best: bool = False, before: Callable[[], None] = int) -> Job:
    """A job whose weights can be told from those of other steps."""
    root.mkdir(exist_ok=True)
    weights = {"w": torch.full((1000,), float(step))}
    writer = weights_writer(get_peft_model(llama(), LORA))
    state = {"step": step, "tokens_seen": 0, "training": {}, "hooks": {}}
    snapshot = Snapshot(step, state, {"t": torch.zeros(3)}, weights, {"xft_metadata.json": b"{}"}, writer)
    return Job(snapshot, root, keep, best, before)


LORA = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")


def llama(**options: Any) -> Any:
    torch.manual_seed(0)
    config = tiny_config("llama", 50)
    for name, value in options.items():
        setattr(config, name, value)
    return AutoModelForCausalLM.from_config(config)


def names(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir())


def test_a_checkpoint_is_whole_linked_and_the_old_ones_are_gone(tmp_path: Path) -> None:
    root = tmp_path / "c"
    for step in (2, 4, 6, 8):
        write_checkpoint(job(root, step, best=step == 4))
    assert names(root) == ["best", "last", "step_4", "step_6", "step_8"]
    assert (os.readlink(root / "last"), os.readlink(root / "best")) == ("step_8", "step_4")
    assert directory.damage(root / "step_8") is None
    assert torch.equal(
        load_file(root / "step_8" / "adapter_model.safetensors")["w"], torch.full((1000,), 8.0)
    )


def test_what_the_disk_gives_back_otherwise_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between writing and reading back, a bit is flipped as a bad disk would."""
    root = tmp_path / "c"
    write_checkpoint(job(root, 2, keep=1))
    seal = manifest.seal

    def seal_and_flip(folder: Path, proven: Any) -> None:
        seal(folder, proven)
        file = folder / "adapter_model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)

    monkeypatch.setattr(manifest, "seal", seal_and_flip)
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors has another checksum"):
        write_checkpoint(job(root, 4, keep=1))
    assert names(root) == ["last", "step_2"]  # the last good one is still there, and nothing half


def test_an_error_is_kept_for_the_main_thread_and_the_next_save_succeeds(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    saver = Saver()
    saver.start(job(tmp_path / "c", 2, before=fail))
    saver.wait()
    failed = saver.take()
    assert failed is not None
    assert (failed.step, failed.reason) == (2, "[Errno 28] No space left on device")
    assert saver.take() is None
    saver.start(job(tmp_path / "c", 4))
    saver.wait()
    saved = saver.take()
    assert saved is not None
    assert (saved.step, saved.error) == (4, None)
    assert names(tmp_path / "c") == ["last", "step_4"]


def test_one_save_at_a_time_and_the_main_thread_goes_on_meanwhile(tmp_path: Path) -> None:
    gate, running = threading.Event(), threading.Event()
    under_way = []

    def slow() -> None:
        under_way.append("first")
        running.set()
        gate.wait(30)
        under_way.remove("first")

    saver = Saver()
    saver.start(job(tmp_path / "c", 2, before=slow))
    assert running.wait(30)  # start came back while the save still runs
    threading.Timer(0.2, gate.set).start()
    saver.start(job(tmp_path / "c", 4, before=lambda: under_way.append("second")))
    saver.wait()
    assert under_way == ["second"]
    assert names(tmp_path / "c") == ["last", "step_2", "step_4"]


def test_an_abandoned_save_is_not_published(tmp_path: Path) -> None:
    saver = Saver()
    saver.start(job(tmp_path / "c", 2, before=saver.abandon))
    saver.wait()
    assert names(tmp_path / "c") == []


LEAVING = """
import atexit, sys, threading, time
from types import SimpleNamespace
from xft.checkpoint.writer import Saver
import torch
begun = threading.Event()
def run(abandoned):
    numbers = [torch.randn(300, 300) for _ in range(40)]
    while True:
        torch.save(numbers, sys.argv[1])
        torch.load(sys.argv[1])
        numbers[0] @ numbers[1]
        begun.set()
saver = Saver()
saver.start(SimpleNamespace(step=1, run=run))
begun.wait()
saver.abandon()
atexit.register(print, "a logger has ended")
sys.exit(130)
"""


def test_a_process_ends_cleanly_though_its_save_does_not(tmp_path: Path) -> None:
    """The thread is within torch's code when the interpreter winds down."""
    command = [sys.executable, "-c", LEAVING, str(tmp_path / "numbers.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (130, "a logger has ended\n"), done.stderr


def test_too_little_room_is_said_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage._replace(free=3_000_000))
    check_room(tmp_path, 2_800_000)
    with pytest.raises(CheckpointError, match=r"4\.2 MB are needed, and 3\.0 MB are free"):
        check_room(tmp_path, 4_000_000)
    # keep=1 needs room for three: 3 x 0.95 MB x 1.05 = 2.99 MB
    check_free(tmp_path, 950_000, keep=1)
    with pytest.raises(
        ConfigError, match=r"about 950\.0 kB, and with keep_last_n=2 there must be room for 4"
    ):
        check_free(tmp_path, 950_000, keep=2)
    (tmp_path / "held").write_bytes(bytes(1_000_000))  # what is there already will be pruned
    check_free(tmp_path, 950_000, keep=2)


def test_bytes_are_readable() -> None:
    assert [format_bytes(each) for each in (12, 1234, 5_600_000, 7.25e9)] == [
        "12 bytes",
        "1.2 kB",
        "5.6 MB",
        "7.2 GB",
    ]


def _saved_by_the_library(model: Any, folder: Path) -> dict[str, bytes]:
    model.save_pretrained(folder)
    return {each.name: each.read_bytes() for each in folder.glob("*.safetensors")}


@pytest.mark.parametrize("tied", [True, False])
def test_copied_weights_are_written_as_the_library_writes_live_ones(tmp_path: Path, tied: bool) -> None:
    for name, model in (
        ("adapter", get_peft_model(llama(), LORA)),
        ("whole", llama(tie_word_embeddings=tied)),
    ):
        expected = _saved_by_the_library(model, tmp_path / name)
        weights, writer = copy_weights(model), weights_writer(model)
        with torch.no_grad():
            for each in model.parameters():
                each.add_(1)  # training goes on before the thread writes
        folder = tmp_path / f"{name}-copied"
        folder.mkdir()
        writer(weights, folder)
        assert {each.name: each.read_bytes() for each in folder.glob("*.safetensors")} == expected


def test_placeholders_give_the_files_beside_the_weights(tmp_path: Path) -> None:
    for name, model in (("adapter", get_peft_model(llama(), LORA)), ("whole", llama())):
        model.save_pretrained(tmp_path / name)
        model.save_pretrained(tmp_path / f"{name}-small", state_dict=placeholders(model))
        for each in (tmp_path / name).iterdir():
            if each.suffix != ".safetensors":
                assert (tmp_path / f"{name}-small" / each.name).read_bytes() == each.read_bytes()


def test_the_estimate_is_near_the_truth() -> None:
    for model in (get_peft_model(llama(), LORA), llama()):
        trained = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(trained)
        for each in trained:
            each.grad = torch.zeros_like(each)
        optimizer.step()
        moments = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
        weights = sum({each.data_ptr(): each.nbytes for each in copy_weights(model).values()}.values())
        assert estimate(model, optimizer=True) == pytest.approx(weights + moments, rel=0.02)
        assert estimate(model, optimizer=False) == weights


@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_whole_models_come_back_also_where_they_are_saved_under_other_names(
    tmp_path: Path, family: str
) -> None:
    """A mixture of experts is one tensor in memory, and one for each expert in the file."""
    model = llama() if family == "llama" else _mixture()
    expected = {name: each.clone() for name, each in model.state_dict().items()}
    model.save_pretrained(tmp_path)
    manifest.seal(tmp_path)
    with torch.no_grad():
        for each in model.parameters():
            each.zero_()
    load_weights_into(model, tmp_path)
    assert all(torch.equal(each, expected[name]) for name, each in model.state_dict().items())


def _mixture() -> nn.Module:
    from transformers import Qwen3MoeConfig

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "moe_intermediate_size": 8}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    experts: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2}
    model: nn.Module = AutoModelForCausalLM.from_config(
        Qwen3MoeConfig(vocab_size=50, **sizes, **heads, **experts)
    )
    return model
