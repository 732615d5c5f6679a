"""Runs that are killed or told to end, and go on."""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.forked import ForkedProcess, torchrun
from helpers.tiny import ROOT, comparable_records, records

OPTIONS = [
    "--cfg-options",
    "training.max_steps=40",
    "hooks.checkpoint.interval=15",
    "hooks.validation.interval=20",
]


def run_benchmark(name: str, *arguments: str) -> str:
    """Run a script of ``benchmarks/`` in a fork, and return its output."""
    process = ForkedProcess(ROOT / "benchmarks" / name, *arguments, paths=(ROOT / "benchmarks",))
    output, error = process.communicate(timeout=800)
    assert process.returncode == 0, output + error
    return output


@pytest.mark.timeout(900)
def test_kills_lose_nothing() -> None:
    """The short form of ``make soak``."""
    output = run_benchmark("crash_soak_test.py", "--kills", "8", "--seed", "1")
    total = next(line for line in output.splitlines() if line.startswith("| **all**"))
    kills, resumed, equal = (int(count) for count in re.findall(r"\d+", total))
    assert kills >= 8
    assert kills == resumed == equal


@pytest.mark.timeout(900)
def test_signals_to_other_commands_leave_no_half_output() -> None:
    """The short form of ``benchmarks/signal_soak_test.py``: a signal to each command."""
    output = run_benchmark("signal_soak_test.py", "--signals", "1", "--seed", "1")
    rows = [line.split(" | ") for line in output.splitlines() if line.startswith("| ")]
    assert sum(int(row[-1].strip(" |")) for row in rows[1:]) == 5


TRAIN = ROOT / "tools" / "train.py"


def arguments_of(config: Path, run: Path, *arguments: str) -> list[str]:
    return [str(config), "--work-dir", str(run), *arguments, *OPTIONS]


def start(config: Path, run: Path, *arguments: str) -> ForkedProcess:
    return ForkedProcess(TRAIN, *arguments_of(config, run, *arguments))


def start_torchrun(config: Path, run: Path) -> subprocess.Popen[str]:
    command = [*torchrun(2), str(TRAIN), *arguments_of(config, run, "--launcher", "pytorch")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for_steps(run: Path, process: ForkedProcess | subprocess.Popen[str], count: int) -> None:
    """Wait until a run has taken so many steps."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if (run / "metrics.jsonl").is_file():
            text = (run / "metrics.jsonl").read_text()
            if text.count('"split": "train"') >= count:
                return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate(timeout=60))


def finish(config: Path, run: Path, *arguments: str, ranks: int = 0) -> None:
    """Run to the end in a fork; under ``ranks``, as ranks of a launcher."""
    launcher = ("--launcher", "pytorch") if ranks else ()
    process = ForkedProcess(TRAIN, *arguments_of(config, run, *arguments, *launcher), ranks=ranks)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-3000:]


def assert_same(run: Path, other: Path) -> None:
    assert comparable_records(run) == comparable_records(other)
    assert (run / "generations.jsonl").read_text() == (other / "generations.jsonl").read_text()
    name = Path("final") / "adapter_model.safetensors"
    assert (run / name).read_bytes() == (other / name).read_bytes()


def test_signals_save_and_end_and_the_run_goes_on_bit_equally(tiny_run: Path, tmp_path: Path) -> None:
    """Terminated in one step, interrupted in a later one, then left alone."""
    tiny_run.write_text(tiny_run.read_text() + "adapter.update(lora_dropout=0.2)\n")
    run = tmp_path / "run"
    for number, code, count in ((signal.SIGTERM, 143, 3), (signal.SIGINT, 130, 9)):
        process = start(tiny_run, run, "--resume", "auto")
        wait_for_steps(run, process, count)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == code, error
        last = os.readlink(run / "checkpoints" / "last")
        assert f"saved {last}; continue with\n" in error
        assert f" train {shlex.quote(str(tiny_run))} --work-dir {shlex.quote(str(run))} --resume" in error
        assert records(run, "train")[-1]["step"] == int(last.removeprefix("step_"))
        assert "Traceback" not in error
    finish(tiny_run, run, "--resume")
    finish(tiny_run, tmp_path / "whole")
    assert_same(run, tmp_path / "whole")


def test_a_warning_saves_and_the_run_goes_on_and_a_second_interrupt_ends_at_once(
    tiny_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(tiny_run, run)
    wait_for_steps(run, process, 2)
    process.send_signal(signal.SIGUSR1)
    # The thread that writes stands back behind all else.
    while not (run / "checkpoints" / "last").exists():
        assert process.poll() is None
        time.sleep(0.05)
    saved = sorted((run / "checkpoints").glob("step_*"), key=lambda each: int(each.name[5:]))
    assert int(saved[0].name[5:]) < 15  # which is when a checkpoint is due by itself
    process.send_signal(signal.SIGINT)
    while "Ctrl-C again" not in process.stderr:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error


def test_all_ranks_end_together_and_go_on_together(tiny_run: Path, tmp_path: Path) -> None:
    """Only the launcher is told; it hands the signal on."""
    tiny_run.write_text(tiny_run.read_text() + "adapter.update(lora_dropout=0.2)\n")
    run = tmp_path / "run"
    process = start_torchrun(tiny_run, run)
    wait_for_steps(run, process, 4)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert " --resume --nproc-per-node 2" in error
    finish(tiny_run, run, "--resume", ranks=2)
    finish(tiny_run, tmp_path / "whole", ranks=2)
    assert_same(run, tmp_path / "whole")
