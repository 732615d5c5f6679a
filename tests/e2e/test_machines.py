"""Ranks that die, stall, or live on two machines."""

import os
import re
import shutil
import signal
import subprocess
import sys
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
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(config: Path, run: Path, *options: str) -> subprocess.Popen[str]:
    """Train on two devices of this machine, with the shorthand."""
    arguments = [str(config), "--work-dir", str(run), "--nproc-per-node", "2", *options]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "train.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def start_ranks(config: Path, run: Path, *options: str) -> ForkedProcess:
    """Train on two ranks, without a launcher that watches them."""
    arguments = [str(config), "--work-dir", str(run), "--launcher", "pytorch", *options]
    return ForkedProcess(ROOT / "tools" / "train.py", *arguments, ranks=2)


def rank_of(process: subprocess.Popen[str], rank: int) -> psutil.Process:
    """The process of a rank."""
    for each in psutil.Process(process.pid).children(recursive=True):
        if each.environ().get("RANK") == str(rank):
            return each
    raise AssertionError(f"no rank {rank}")


def wait_for(run: Path, process: subprocess.Popen[str] | ForkedProcess, steps: int) -> None:
    """Wait until a run has saved a checkpoint of at least so many steps, and goes on from there."""
    until = time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None:
        saved = [int(each.name[5:]) for each in run.glob("checkpoints/step_*")]
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
    assert [each["step"] for each in records(run, "train")] == list(range(1, before + 3))


@pytest.mark.timeout(400)
def test_a_rank_that_is_killed_while_ranks_write_their_shares_costs_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Half a checkpoint is never taken for a whole one, and the run goes on bit-equally."""
    pytest.importorskip("deepspeed")
    often = EXTRA.replace("interval=10", "interval=1").replace("steps=600", "steps=12")
    extra = often + "adapter = None\noptimizer.update(lr=1e-3)\n"
    config = write_config(tmp_path / "c.py", tiny_model, write_rows(tmp_path / "rows.jsonl", 24), extra)
    run, whole = tmp_path / "run", tmp_path / "whole"
    process = start(config, run)
    while not list(run.glob("checkpoints/.step_*.shards")):
        assert process.poll() is None
        time.sleep(0.001)
    rank_of(process, 1).kill()
    process.communicate(timeout=100)
    assert process.returncode != 0
    for folder in (run, whole):
        process = start_ranks(config, folder, "--resume", "auto")
        _, error = process.communicate(timeout=200)
        assert process.returncode == 0, error[-3000:]
    losses, expected = ([each["loss"] for each in records(each, "train")] for each in (run, whole))
    assert len(expected) == 12
    assert losses == expected
    assert not list(run.glob("checkpoints/.step_*"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("moment", ["before_save", "after_run"])
def test_a_rank_that_dies_in_a_save_or_before_the_last_barrier_is_named(
    tiny_model: Path, tmp_path: Path, moment: str
) -> None:
    """Rank 0 waits for the random state of rank 1, or for rank 1 at the end of the run."""
    (tmp_path / "dying.py").write_text(DYING)
    extra = EXTRA.replace('"deepspeed", zero_stage=2', '"ddp"').replace("steps=600", "steps=12")
    extra += f"hooks.update(die=dict(type='dying.Die', moment={moment!r}))\n"
    config = write_config(tmp_path / "c.py", tiny_model, write_rows(tmp_path / "rows.jsonl", 24), extra)
    run, command = tmp_path / "run", ["train", "c.py", "--work-dir", "run", "--nproc-per-node", "2"]
    options = {"cwd": tmp_path, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 150}
    done = subprocess.run([sys.executable, "-m", "xft", *command], check=False, **options)
    assert done.returncode != 0
    assert "error: rank 1 was ended by SIGKILL" in done.stderr
    assert "Traceback" not in done.stderr
    rest = ["--resume", "auto", "--cfg-options", "hooks.die=none"]
    done = subprocess.run([sys.executable, "-m", "xft", *command, *rest], check=False, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert config.is_file()
    assert [each["step"] for each in records(run, "train")] == list(range(1, 13))
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
        for each in names:
            if (made := ip("netns", "add", each)).returncode:
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
        for each in names:
            ip("netns", "del", each)


@pytest.mark.timeout(400)
def test_two_machines_give_the_losses_of_one_process(
    machines: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("deepspeed")
    rows = write_rows(tmp_path / "rows.jsonl", 14)
    extra = "hooks.update(sample_generation=None, validation=None)\ntraining.update(gradient_accumulation_steps=4)\n"
    config = write_config(tmp_path / "c.py", tiny_model, rows, extra)
    assert main(["train", str(config), "--work-dir", str(tmp_path / "one")]) == 0
    config.write_text(config.read_text() + "training.update(gradient_accumulation_steps=2)\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    command += ["--rdzv_backend=c10d", "--rdzv_endpoint=10.77.0.1:29400", "--rdzv_id=xft"]
    command += ["--max_restarts=0"]
    processes = [
        subprocess.Popen(
            [
                *("ip", "netns", "exec", name, *command, f"--local-addr=10.77.0.{number}"),
                f"--rdzv_conf=is_host={int(number == 1)},timeout=100",
                *(str(ROOT / "tools" / "train.py"), str(config), "--work-dir", str(tmp_path / "two")),
                *("--launcher", "pytorch", "--deepspeed", "zero2"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, "GLOO_SOCKET_IFNAME": name},
        )
        for number, name in enumerate(machines, 1)
    ]
    end = threading.Timer(200, lambda: [each.kill() for each in processes])
    end.start()
    said = [each.communicate(timeout=300) for each in processes]
    end.cancel()
    assert [each.returncode for each in processes] == [0, 0], said
    assert sum("ZeRO stage 2 on 2 ranks" in out for out, _ in said) == 1
    one, two = ([each["loss"] for each in records(tmp_path / name, "train")] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-5)
    assert re.search(r"^saved ", "".join(out for out, _ in said), re.MULTILINE)
