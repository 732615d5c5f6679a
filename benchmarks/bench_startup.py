"""Measure the time from the command of a run to its first step, by stage.

python benchmarks/bench_startup.py configs/smollm2_lora.py --repeat 5 [--cfg-options K=V ...]

Each measurement starts a new process like `xft train` and ends it after the first step. The data is prepared once
in advance, so runs read it from the cache. Prints medians in seconds of wall time and CPU time.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

STAGES = ("libraries", "model and data", "validation", "sample questions", "first step")
MARKS = "XFT_START_MARKS"


def mark(stage: str) -> None:
    """Record the end of a stage: Unix time and CPU time in seconds."""
    with open(os.environ[MARKS], "a", encoding="utf-8") as file:
        file.write(json.dumps([stage, time.time(), time.process_time()]) + "\n")


def child(arguments: list[str]) -> int:
    """Run `xft train` up to the first step."""
    from xft.cli import main
    from xft.registry import register

    gc.disable()  # as the command does while it imports
    import xft.training.train  # noqa: F401 - first: it prevents MMEngine from importing unused libraries

    gc.enable()
    from mmengine.hooks import Hook

    mark("libraries")

    @register("hooks", "start_clock")
    class Clock(Hook):
        """Record a stage after all hooks of a priority."""

        def __init__(self, stage: str, priority: int) -> None:
            self.stage = stage
            self.priority = priority

        def before_train(self, runner: Any) -> None:
            mark(self.stage)

        def after_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
            if self.stage == STAGES[1]:
                mark(STAGES[-1])
                raise KeyboardInterrupt

    # The validation hook has priority 50, the sample_generation hook 60.
    places = dict(zip(STAGES[1:4], (0, 55, 100), strict=True))
    for number, (stage, priority) in enumerate(places.items()):
        where = f"hooks.start_{number}"
        arguments += [
            f"{where}.type=start_clock",
            f"{where}.stage={stage!r}",
            f"{where}.priority={priority}",
        ]
    return main(["train", *arguments])


def measure(config: str, options: list[str]) -> dict[str, tuple[float, float]]:
    """Return wall seconds and CPU seconds of each stage, in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder) / "marks"
        command = [
            sys.executable,
            __file__,
            "--child",
            config,
            "--work-dir",
            f"{folder}/run",
            "--cfg-options",
        ]
        begun = time.time()
        done = subprocess.run(
            [*command, *options],
            env={**os.environ, MARKS: str(marks)},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = marks.read_text(encoding="utf-8").splitlines() if marks.is_file() else []
        found = {stage: (at - begun, used) for stage, at, used in map(json.loads, lines)}
        if STAGES[-1] not in found:
            sys.exit(f"the run ended before its first step:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    taken, before = {}, (0.0, 0.0)
    for stage in STAGES:
        taken[stage] = (found[stage][0] - before[0], found[stage][1] - before[1])
        before = found[stage]
    return taken


def main() -> int:
    """Run the measurements and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("config", nargs="?", default=str(ROOT / "configs" / "smollm2_lora.py"))
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="number of processes (5)")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="K=V")
    arguments = parser.parse_args()
    measure(arguments.config, arguments.cfg_options)  # prepares the data and warms the page cache
    runs = [measure(arguments.config, arguments.cfg_options) for _ in range(arguments.repeat)]
    print(f"{'':<20}{'wall':>8}{'CPU':>12}   (median of {len(runs)}, seconds)")
    for stage in STAGES:
        wall, used = (median(run[stage][at] for run in runs) for at in (0, 1))
        print(f"{stage:<20}{wall:>8.2f}{used:>12.2f}")
    totals = [[sum(run[stage][at] for stage in STAGES) for run in runs] for at in (0, 1)]
    print(f"{'to the first step':<20}{median(totals[0]):>8.2f}{median(totals[1]):>12.2f}")
    print(f"{'min and max':<20}{_range(totals[0]):>8}  {_range(totals[1])}")
    return 0


def _range(values: list[float]) -> str:
    return f"{min(values):.1f}-{max(values):.1f}"


if __name__ == "__main__":
    sys.exit(child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
