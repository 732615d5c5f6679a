"""Measure how long a checkpoint blocks training, with synchronous and asynchronous saves.

    python benchmarks/bench_saving.py                    # about three minutes on two cores
    python benchmarks/bench_saving.py --rounds 9

Trains all 14 million weights of a model with AdamW in fp32. A checkpoint has 170 MB and is saved three times per
run. Prints how long a save blocks training, and the slowdown of steps while the writer thread is active: on a CPU,
both use the same cores.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tiny_run import write_inputs

INTERVAL, STEPS = 8, 31
OPTIONS = (
    "hooks.validation=none",
    "hooks.sample_generation=none",
    "hooks.progress=none",
    "hooks.checkpoint.metric_for_best_model=none",
    "data.val_split=none",
    f"hooks.checkpoint.interval={INTERVAL}",
    f"training.max_steps={STEPS}",
)
SIZES = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
Times = tuple[list[float], list[float], list[bool]]


def watch(config: Path, run: Path, wait: bool) -> Times:
    """Train once.

    Returns:
        Seconds of computation per step, seconds that training is blocked after each step, and whether the writer
        thread was active during each step.
    """
    from xft.cli import main as xft
    from xft.training.hooks.checkpoint import CheckpointHook

    computed: list[float] = []
    still: list[float] = []
    while_writing: list[bool] = []
    ended = [0.0]
    after_step = CheckpointHook.after_step

    def timed(self: Any, runner: Any) -> None:
        begun = time.perf_counter()
        computed.append(begun - ended[0])
        while_writing.append(runner.was_busy if len(computed) > 1 else False)
        after_step(self, runner)
        runner.was_busy = any(each.name == "xft-checkpoint-writer" for each in threading.enumerate())
        ended[0] = time.perf_counter()
        still.append(ended[0] - begun)

    CheckpointHook.after_step = timed  # type: ignore[method-assign]
    options = [*OPTIONS, f"hooks.checkpoint.async_save={not wait}"]
    try:
        code = xft(["train", str(config), "--work-dir", str(run), "--cfg-options", *options])
    finally:
        CheckpointHook.after_step = after_step  # type: ignore[method-assign]
    if code != 0:
        sys.exit(code)
    shutil.rmtree(run)
    return computed, still, while_writing


def main() -> None:
    """Alternate both kinds of saves and print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    halts: dict[bool, list[float]] = {True: [], False: []}
    alone: list[float] = []
    while_writing: list[float] = []
    try:
        write_inputs(folder, folder / "run.py", adapter=False, sizes=SIZES)
        for _ in range(arguments.rounds):
            for wait in halts:
                computed, still, writing = watch(folder / "run.py", folder / "run", wait)
                # Skip the first save, which copies the static files, and the save after the last step.
                halts[wait] += still[2 * INTERVAL - 1 : -1 : INTERVAL]
                for seconds, busy in list(zip(computed, writing, strict=True))[INTERVAL:]:
                    (while_writing if busy else alone).append(seconds)
    finally:
        shutil.rmtree(folder)
    waited, threaded = (statistics.median(halts[each]) for each in (True, False))
    usual, slowed = statistics.median(alone), statistics.median(while_writing)
    print(
        f"\na save blocks training for {waited:.3f} s when synchronous, for {threaded:.3f} s when asynchronous "
        f"({threaded / waited:.1%})"
    )
    print(
        f"a step takes {usual:.3f} s, and {slowed:.3f} s while the writer thread is active ({slowed / usual - 1:+.0%})"
    )


if __name__ == "__main__":
    main()
