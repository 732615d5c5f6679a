"""Send signals to commands at random moments, and check what they leave behind.

    python benchmarks/signal_soak_test.py                        # 40 signals to each command, some minutes
    python benchmarks/signal_soak_test.py --signals 2 --seed 7

``convert``, ``prepare-data``, ``eval``, ``report`` and ``serve`` get SIGINT, SIGTERM or SIGKILL. A command must end by it
within 30 seconds and without a traceback. Its output must be absent or whole, and the next run of the command in the
same place must write the output of a run that was not disturbed. Training has its own test, ``crash_soak_test.py``.
"""

import argparse
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from crash_soak_test import in_child
from tiny_run import write_inputs

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LIMIT_S = 30
"""Seconds in which a command must end after a signal."""
CODES = {
    signal.SIGINT: (130, -signal.SIGINT),
    signal.SIGTERM: (143, -signal.SIGTERM),
    signal.SIGKILL: (-signal.SIGKILL,),
}
"""Exit codes of a command that a signal has ended."""


@dataclass(frozen=True)
class Target:
    """A command, with the files that it writes.

    Attributes:
        name: of the command.
        arguments: command line.
        output: file or folder that it writes; ``None`` if it writes none.
        compares: whether two runs write the same bytes.
    """

    name: str
    arguments: list[str]
    output: Path | None
    compares: bool = True


def targets(folder: Path) -> list[Target]:
    """Return the commands, for the run in ``folder``."""
    run, page = str(folder / "run"), folder / "run" / "report.html"
    prepared = folder / "cache" / "data"
    return [
        Target("convert", ["convert", run, str(folder / "out"), "--merge"], folder / "out"),
        Target("prepare-data", ["prepare-data", str(folder / "tiny.py")], prepared, compares=False),
        Target("eval", ["eval", run, "--out", str(folder / "eval.json")], folder / "eval.json"),
        Target("report", ["report", run], page),
        Target("serve", ["serve", run, "--port", "0"], None),
    ]


def digest(path: Path | None) -> dict[str, str]:
    """Return SHA-256 by file; empty if nothing is there."""
    if path is None or not path.exists():
        return {}
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


def says_incomplete(path: Path | None) -> bool:
    """Whether a file says that it holds the results before an interruption only, as that of ``eval`` does."""
    return path is not None and path.suffix == ".json" and json.loads(path.read_text())["complete"] is False


def remove(path: Path | None) -> None:
    """Remove an output of an earlier run."""
    if path is not None and path.is_dir():
        shutil.rmtree(path)
    elif path is not None:
        path.unlink(missing_ok=True)


def command(folder: Path, arguments: list[str]) -> Callable[[], int]:
    """Return a function that runs a command in this process."""

    def act() -> int:
        from xft.cli import main

        os.environ["XFT_CACHE"] = str(folder / "cache")
        return main(arguments)

    return act


def strike(folder: Path, target: Target, after: float, number: int) -> tuple[int, str]:
    """Send a signal to a command; return its exit code, and what is wrong with its end, if anything."""
    log = folder / "struck.log"
    log.unlink(missing_ok=True)
    started = time.perf_counter()
    code = in_child(command(folder, target.arguments), log, after, number)
    seconds = time.perf_counter() - started - after
    # A signal may come before the command opens its log.
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    if code not in (0, *CODES[signal.Signals(number)]):
        return code, f"ended with {code}: {text[-400:]}"
    if "Traceback" in text:
        return code, f"printed a traceback: {text[-400:]}"
    return code, f"took {seconds:.0f} s to end" if seconds > LIMIT_S else ""


def soak_target(
    folder: Path, target: Target, count: int, chance: random.Random
) -> tuple[Counter[str], list[str]]:
    """Send ``count`` signals to a command; return the counts by signal and result, and what went wrong."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    expected: dict[str, str] = {}
    duration = 3.0
    if target.output is not None:
        remove(target.output)
        started = time.perf_counter()
        code = in_child(command(folder, target.arguments), folder / "first.log")
        duration = time.perf_counter() - started
        expected = digest(target.output)
        if code or not expected:
            return counts, [
                f"{target.name}: ended with {code}: {(folder / 'first.log').read_text()[-400:]}"
            ]
    for index in range(count):
        number = SIGNALS[index % len(SIGNALS)]
        after = chance.uniform(0, duration * 1.1)
        remove(target.output)
        code, problem = strike(folder, target, after, number)
        left = digest(target.output)
        is_partial = left not in ({}, expected) and not says_incomplete(target.output)
        if not problem and target.compares and is_partial:
            problem = f"left a part of its output: {sorted(left)}"
        ended = "finished before" if code == 0 else "ended"
        counts[f"{signal.Signals(number).name} {ended}"] += 1
        if problem:
            wrong.append(f"{target.name}, {signal.Signals(number).name} after {after:.2f} s: {problem}")
    if target.output is not None:
        code = (
            0
            if target.compares and digest(target.output) == expected
            else in_child(command(folder, target.arguments), folder / "last.log")
        )
        again = digest(target.output)
        if code or (target.compares and again != expected) or not again:
            wrong.append(f"{target.name}: the next run ended with {code}, and wrote {sorted(again)}")
    return counts, wrong


def main() -> int:
    """Run the test and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--signals", type=int, default=40, help="signals to each command (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--only", nargs="+", help="names of commands")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)  # a thread pool does not survive a fork
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background
    import xft.cli
    import xft.export
    import xft.training.evaluate
    import xft.training.train  # noqa: F401

    gc.collect()
    gc.freeze()
    folder = Path(tempfile.mkdtemp(prefix="signals-"))
    config = folder / "tiny.py"
    in_child(lambda: write_inputs(folder, config, adapter=True), folder / "inputs.log")
    train = ["train", str(config), "--work-dir", str(folder / "run")]
    if in_child(command(folder, train), folder / "train.log"):
        sys.exit((folder / "train.log").read_text(encoding="utf-8"))
    wrong: list[str] = []
    print("| command | result | signals |\n|---|---|---|")
    for target in targets(folder):
        if arguments.only and target.name not in arguments.only:
            continue
        chance = random.Random(f"{arguments.seed}-{target.name}")
        counts, problems = soak_target(folder, target, arguments.signals, chance)
        wrong += problems
        for result, total in sorted(counts.items()):
            print(f"| {target.name} | {result} | {total} |", flush=True)
    print(f"\nwrong: {len(wrong)}")
    print("\n".join(wrong))
    if not wrong:
        shutil.rmtree(folder)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
