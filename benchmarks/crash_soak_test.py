"""Kill runs of tiny models at random moments, resume them, and compare them with uninterrupted runs.

    python benchmarks/crash_soak_test.py                        # 200 kills, about 5 minutes on two idle cores
    python benchmarks/crash_soak_test.py --kills 20 --seed 7
    python benchmarks/crash_soak_test.py --kills 40 --grpo      # reinforcement learning

A run is killed with SIGKILL in a phase (training step, validation, save, data preparation, ...), at a single system
call (fsync, rename, unlink, ...), or at a random time. It is restarted with ``--resume auto`` and may be killed
again. A completed run must equal the uninterrupted run bit for bit: weights, optimizer state, ``metrics.jsonl``
(except times), ``generations.jsonl`` and ``rollouts.jsonl``. The seed selects the moments, but not the exact delays.

The process imports everything once and forks a child for every start.
"""

import argparse
import gc
import json
import mmap
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash_points import PHASES, Aim, Points
from tiny_run import write_inputs

ADAPTER, WHOLE = "adapter", "all weights"
ONLINE = "sampled"
TIMES = ("seconds", "per_second", "peak_memory_bytes")
"""Suffixes of metrics that differ between any two runs."""
AGAIN = 0.6
"""Probability that a killed run is killed again."""


@dataclass
class Reference:
    """Uninterrupted run, with the number of calls and the mean seconds of each point."""

    config: Path
    run: Path
    seconds: float
    counts: dict[str, int]
    mean: dict[str, float]


@dataclass
class KillCounts:
    """Counts of kills, resumed runs and equal runs, by phase."""

    kills: Counter[str] = field(default_factory=Counter)
    resumed: Counter[str] = field(default_factory=Counter)
    equal: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    runs: int = 0
    most: int = 0


def build_reference(folder: Path, kind: str) -> Reference:
    """Write model, rows and config into ``folder``, and train without interruption."""
    config = folder / "tiny.py"
    online = kind == ONLINE
    adapter = kind != WHOLE
    in_child(lambda: write_inputs(folder, config, adapter, online=online), folder / "inputs.log")
    report = folder / "counts.json"
    begun = time.perf_counter()
    code, _ = _train(config, folder / "run", folder / "cache", None, report)
    seconds = time.perf_counter() - begun
    if code != 0:
        sys.exit((folder / "run.log").read_text(encoding="utf-8"))
    found = json.loads(report.read_text())
    mean = {name: found["seconds"][name] / count for name, count in found["counts"].items()}
    return Reference(config, folder / "run", seconds, found["counts"], mean)


def choose_aim(reference: Reference, chance: random.Random) -> Aim | float:
    """Choose a moment of a run: a call, or seconds after the start."""
    way = chance.random()
    if way < 0.2:
        return chance.uniform(0, reference.seconds)
    system = ("fsync", "rename", "replace", "symlink", "unlink", "rmdir")
    names = [each for each in (PHASES if way < 0.8 else system) if each in reference.counts]
    # Training spends most of its time in steps and sampling, so they get the largest weight.
    point = chance.choices(names, [4 if each in ("step", "sampling") else 1 for each in names])[0]
    call = chance.randint(1, reference.counts[point])
    at_its_beginning = point in system or chance.random() < 0.5
    return Aim(point, call, 0.0 if at_its_beginning else chance.uniform(0, reference.mean[point]))


def soak(folder: Path, kills: int, seed: int, kinds: Sequence[str]) -> KillCounts:
    """Run until ``kills`` kills have happened, and return their counts.

    Args:
        folder: folder of the runs.
        kills: number of kills.
        seed: of the moments.
        kinds: kinds of runs, which alternate.
    """
    tally = KillCounts()
    references = []
    for kind in kinds:
        (folder / kind).mkdir()
        references.append(build_reference(folder / kind, kind))
    while sum(tally.kills.values()) < kills and not tally.lost:
        number = tally.runs
        one_run(
            folder / f"run-{number}",
            references[number % len(references)],
            random.Random(f"{seed}-{number}"),
            tally,
        )
        tally.runs += 1
    return tally


def one_run(folder: Path, reference: Reference, chance: random.Random, tally: KillCounts) -> None:
    """Train one model to completion, with at least one attempt to kill it."""
    folder.mkdir()
    run = folder / "run"
    struck: list[str] = []
    live = False
    while True:
        aim = None if live else choose_aim(reference, chance)
        code, where = _train(reference.config, run, folder / "cache", aim, None)
        if struck and code in (0, -signal.SIGKILL):
            tally.resumed[struck[-1]] += 1
        if code != -signal.SIGKILL:
            break
        tally.kills[where] += 1
        struck.append(where)
        live = chance.random() > AGAIN
        if wrong := _out_of_order(run):
            tally.lost.append(f"{folder}: killed in {struck}: {wrong}")
            return
    wrong = f"ended with {code}" if code else _difference(run, reference.run)
    if wrong:
        tally.lost.append(f"{folder}: killed in {struck}: {wrong}")
        return
    tally.equal.update(struck)
    tally.most = max(tally.most, len(struck))
    shutil.rmtree(folder)


def _out_of_order(run: Path) -> str | None:
    """Return the first symlink that dangles or points to a corrupt checkpoint; ``None`` if there is none."""
    from xft.checkpoint.directory import corruption_of

    for name in ("last", "best"):
        link = run / "checkpoints" / name
        if link.is_symlink() and (wrong := corruption_of(link.resolve())):
            return f"{name} points at {os.readlink(link)}: {wrong}"
    return None


def _difference(run: Path, reference: Path) -> str | None:
    """Return the first difference between two completed runs; ``None`` if they are equal."""
    if _figures(run) != _figures(reference):
        return "metrics.jsonl differs"
    last = Path("checkpoints", os.readlink(reference / "checkpoints" / "last"))
    names = [last / "training_state.safetensors", Path("generations.jsonl")]
    names += [Path("rollouts.jsonl")] if (reference / "rollouts.jsonl").exists() else []
    names += [each.relative_to(reference) for each in (reference / "final").glob("*.safetensors")]
    for name in names:
        if (run / name).read_bytes() != (reference / name).read_bytes():
            return f"{name} differs"
    links = [
        [os.readlink(each / "checkpoints" / name) for name in ("last", "best")] for each in (run, reference)
    ]
    return None if links[0] == links[1] else f"links are {links[0]}, expected {links[1]}"


def _figures(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if not key.endswith(TIMES)} for line in lines
    ]


def _train(
    config: Path, run: Path, cache: Path, aim: Aim | float | None, report: Path | None
) -> tuple[int, str]:
    """Start or resume a run in a child process; return its exit code and its last phase."""
    shared = mmap.mmap(-1, 2)
    points = Points(shared, aim if isinstance(aim, Aim) else None)

    def child() -> int:
        from xft.cli import main

        os.environ["XFT_CACHE"] = str(cache)
        points.install()
        code = main(["train", str(config), "--work-dir", str(run), "--resume", "auto", "--debug"])
        if report is not None:
            points.write(report)
        return code

    code = in_child(child, run.with_suffix(".log"), aim if isinstance(aim, float) else None)
    return code, PHASES[shared[1] or shared[0]]


def in_child(act: Any, log: Path, kill_after: float | None = None, number: int = signal.SIGKILL) -> int:
    """Call ``act`` in a fork of this process, and send it a signal after some seconds.

    Returns:
        Its exit code, or the negative signal.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            code = act()
        except BaseException:  # noqa: BLE001
            # ``os._exit`` skips the traceback that the interpreter would print.
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def table(tally: KillCounts) -> list[str]:
    """Format the counts by phase as a Markdown table."""
    lines = ["| killed in | kills | resumed | bit-equal at the end |", "|---|---|---|---|"]
    counters = (tally.kills, tally.resumed, tally.equal)
    for phase in [each for each in PHASES if tally.kills[each]]:
        lines.append(f"| {phase} | " + " | ".join(str(each[phase]) for each in counters) + " |")
    return [*lines, "| **all** | " + " | ".join(f"**{each.total()}**" for each in counters) + " |"]


def main() -> int:
    """Run the test and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="number of kills (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--grpo", action="store_true", help="kill runs of reinforcement learning")
    arguments = parser.parse_args()
    import torch

    # A thread pool does not survive a fork, so the parent must not start one.
    torch.set_num_threads(1)
    import xft.export
    import xft.training.train  # noqa: F401

    # Forks share the imported modules; a garbage collection would write to these pages and copy them.
    gc.collect()
    gc.freeze()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    begun = time.perf_counter()
    kinds = (ONLINE,) if arguments.grpo else (ADAPTER, WHOLE)
    tally = soak(folder, arguments.kills, arguments.seed, kinds)
    print("\n".join(table(tally)))
    print(
        f"\n{tally.runs} runs, killed up to {tally.most} times each; lost: {len(tally.lost)}; "
        f"{time.perf_counter() - begun:.0f} s"
    )
    if tally.lost:
        print("\n".join(tally.lost))
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
