"""Ranks that die, stall, or live on two machines."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers.forked import ForkedProcess
from helpers.tiny import ROOT, records, write_config, write_rows

from xft.cli import main

EXTRA = """
hooks.update(sample_generation=None, validation=None)
hooks["checkpoint"].update(interval=10)
strategy = dict(type="deepspeed", zero_stage=2, timeout_minutes=0.25)
training.update(max_steps=600)
"""
DYING = """
import os, signal
from xft.training.hooks import Hook

class Die(Hook):
    def __init__(self, moment):
        self.moment = moment
    def before_save(self, runner, step):
        self.end("before_save", runner)
    def after_run(self, runner):
        self.end("after_run", runner)
    def end(self, moment, runner):
        if moment == self.moment and runner.strategy.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
"""
ENTER = """
import ctypes, os, runpy, sys
sys.argv.pop(0)
with open(f"/run/netns/{sys.argv.pop(0)}") as namespace:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), 0):
        raise OSError(ctypes.get_errno(), "setns")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(config: Path, run: Path, *options: str) -> ForkedProcess:
    """Train on two devices of this machine, with the shorthand: its launcher starts new interpreters."""
    arguments = [str(config), "--work-dir", str(run), "--nproc-per-node", "2", *options]
    return ForkedProcess(ROOT / "tools" / "train.py", *arguments)


def start_ranks(config: Path, run: Path, *options: str) -> ForkedProcess:
    """Train on two ranks, without a launcher that watches them."""
    arguments = [str(config), "--work-dir", str(run), "--launcher", "pytorch", *options]
    return ForkedProcess(ROOT / "tools" / "train.py", *arguments, ranks=2)


def rank_of(process: ForkedProcess, rank: int) -> psutil.Process:
    """The process of a rank."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"no rank {rank}")


def wait_for(run: Path, process: ForkedProcess, steps: int) -> None:
    """Wait until a run has saved a checkpoint of at least so many steps, and goes on from there."""
    until = time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None:
        saved = [int(path.name[5:]) for path in run.glob("checkpoints/step_*")]
        if saved and max(saved) >= steps and records(run, "train")[-1]["step"] > max(saved):
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate(timeout=60))


def newest(run: Path) -> int:
    return int(os.readlink(run / "checkpoints" / "last").removeprefix("step_"))


@pytest.mark.timeout(400)
def test_a_rank_that_is_killed_or_stalls_is_named_and_the_run_goes_on(
    tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("deepspeed")
    config = write_config(tmp_path / "c.py", tiny_model, write_rows(tmp_path / "rows.jsonl", 24), EXTRA)
    run = tmp_path / "run"
    process = start(config, run)
    wait_for(run, process, 10)
    rank_of(process, 1).send_signal(signal.SIGKILL)
    out, error = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGKILL
    assert "error: rank 1 of 2 is gone: it was killed" in error
    assert "--resume continues from the newest checkpoint" in error
    assert "Traceback" not in error
    assert out.count("steps     600") == 1  # only the first rank speaks

    before = newest(run)
    process = start_ranks(config, run, "--resume")
    wait_for(run, process, before + 10)
    os.kill(process.pids[1], signal.SIGSTOP)
    # Nobody must wait for ever.
    end = threading.Timer(60, os.kill, (process.pids[1], signal.SIGKILL))
    end.start()
    _, error = process.communicate(timeout=100)
    end.cancel()
    line = next(line for line in error.splitlines() if "is gone" in line)
    assert line.startswith("error: rank 1 of 2 is gone")
    assert "did not answer within strategy.timeout_minutes" in line
    assert process.returncode == 6

    before = newest(run)
    config.write_text(config.read_text() + 'strategy = dict(type="single_device")\n')
    rest = ["--resume", "--cfg-options", f"training.max_steps={before + 2}"]
    assert main(["train", str(config), "--work-dir", str(run), *rest]) == 0
    assert [record["step"] for record in records(run, "train")] == list(range(1, before + 3))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("strategy", ['"deepspeed", zero_stage=2', '"fsdp2"'])
def test_a_rank_that_is_killed_while_ranks_write_their_shares_costs_nothing(
    strategy: str, tiny_model: Path, tmp_path: Path
) -> None:
    """Half a checkpoint is never taken for a whole one, and the run goes on bit-equally."""
    if "deepspeed" in strategy:
        pytest.importorskip("deepspeed")
    often = EXTRA.replace("interval=10", "interval=1").replace("steps=600", "steps=12")
    often = often.replace('"deepspeed", zero_stage=2', strategy)
    extra = often + "adapter = None\noptimizer.update(lr=1e-3)\n"
    config = write_config(tmp_path / "c.py", tiny_model, write_rows(tmp_path / "rows.jsonl", 24), extra)
    run, whole = tmp_path / "run", tmp_path / "whole"
    process = start_ranks(config, run)
    while not list(run.glob("checkpoints/.step_*.shards")):
        assert process.poll() is None
        time.sleep(0.001)
    os.kill(process.pids[1], signal.SIGKILL)
    assert process.wait(100) != 0
    for folder in (run, whole):
        process = start_ranks(config, folder, "--resume", "auto")
        _, error = process.communicate(timeout=200)
        assert process.returncode == 0, error[-3000:]
    losses, expected = ([record["loss"] for record in records(folder, "train")] for folder in (run, whole))
    assert len(expected) == 12
    assert losses == expected
    assert not list(run.glob("checkpoints/.step_*"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("moment", ["before_save", "after_run"])
def test_a_rank_that_dies_in_a_save_or_before_the_last_barrier_is_named(
    tiny_model: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 waits for the random state of rank 1, or for rank 1 at the end of the run."""
    (tmp_path / "dying.py").write_text(DYING)
    extra = EXTRA.replace('"deepspeed", zero_stage=2', '"ddp"').replace("steps=600", "steps=12")
    extra += f"hooks.update(die=dict(type='dying.Die', moment={moment!r}))\n"
    config = write_config(tmp_path / "c.py", tiny_model, write_rows(tmp_path / "rows.jsonl", 24), extra)
    run = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    process = start(Path("c.py"), Path("run"))
    _, error = process.communicate(timeout=150)
    assert process.returncode != 0
    assert "error: rank 1 was ended by SIGKILL" in error
    assert "Traceback" not in error
    process = start_ranks(config, run, "--resume", "auto", "--cfg-options", "hooks.die=none")
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0, error[-3000:]
    assert config.is_file()
    assert [record["step"] for record in records(run, "train")] == list(range(1, 13))
    assert (run / "final").is_dir()


def ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them: two machines, as far as ranks can tell."""
    if shutil.which("ip") is None:
        pytest.skip("no `ip` (iproute2) on this machine")
    names = [f"xft{os.getpid()}{each}" for each in "ab"]
    try:
        for name in names:
            if (made := ip("netns", "add", name)).returncode:
                pytest.skip(f"`ip netns add` is not allowed here: {made.stderr.strip()}")
        if (made := ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])).returncode:
            pytest.skip(f"`ip link add type veth` is not allowed here: {made.stderr.strip()}")
        for number, each in enumerate(names, 1):
            assert ip("link", "set", each, "netns", each).returncode == 0
            for command in (
                ("addr", "add", f"10.77.0.{number}/24", "dev", each),
                ("link", "set", each, "up"),
                ("link", "set", "lo", "up"),
            ):
                assert ip("-n", each, *command).returncode == 0
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.mark.timeout(400)
def test_two_machines_give_the_losses_of_one_process(
    machines: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranks get the environment that ``torchrun --nnodes 2`` sets."""
    pytest.importorskip("deepspeed")
    rows = write_rows(tmp_path / "rows.jsonl", 14)
    extra = "hooks.update(sample_generation=None, validation=None)\ntraining.update(gradient_accumulation_steps=4)\n"
    config = write_config(tmp_path / "c.py", tiny_model, rows, extra)
    assert main(["train", str(config), "--work-dir", str(tmp_path / "one")]) == 0
    config.write_text(config.read_text() + "training.update(gradient_accumulation_steps=2)\n")
    script = tmp_path / "enter.py"
    script.write_text(ENTER)
    train = [str(ROOT / "tools" / "train.py"), str(config), "--work-dir", str(tmp_path / "two")]
    world = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    world |= {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29400"}
    processes = []
    for rank, name in enumerate(machines):
        for variable, value in {**world, "RANK": str(rank), "GLOO_SOCKET_IFNAME": name}.items():
            monkeypatch.setenv(variable, value)
        options = ["--launcher", "pytorch", "--deepspeed", "zero2"]
        processes.append(ForkedProcess(script, name, *train, *options))
    streams = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], streams
    assert sum("ZeRO stage 2 on 2 ranks" in out for out, _ in streams) == 1
    one, two = ([record["loss"] for record in records(tmp_path / name, "train")] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-5)
    assert re.search(r"^saved ", "".join(out for out, _ in streams), re.MULTILINE)
