"""How much a checkpoint holds up training: written by a thread, and waited for.

    python benchmarks/bench_saving.py                    # about three minutes on two cores
    python benchmarks/bench_saving.py --rounds 9

Trains all weights of a model of 14 million with AdamW, fp32: a checkpoint of 170 MB, saved three
times in a run. Prints how long training stands still at a save, and by how much the steps are
slower while the thread writes beside them: on a CPU both want the same cores.
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
    "hooks.checkpoint.monitor=none",
    "data.val_split=none",
    f"hooks.checkpoint.interval={INTERVAL}",
    f"training.max_steps={STEPS}",
)
SIZES = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
Times = tuple[list[float], list[float], list[bool]]


def watch(config: Path, run: Path, wait: bool) -> Times:
    """Train once.

    Returns:
        Seconds that each step computes, seconds that training stands still behind it, and whether
        the thread was at work while it computed.
    """
    from xft.cli import main as xft
    from xft.training.hooks.checkpoint import CheckpointHook

    computed: list[float] = []
    still: list[float] = []
    beside: list[bool] = []
    ended = [0.0]
    after_step = CheckpointHook.after_step

    def timed(self: Any, runner: Any) -> None:
        begun = time.perf_counter()
        computed.append(begun - ended[0])
        beside.append(runner.was_busy if len(computed) > 1 else False)
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
    return computed, still, beside


def main() -> None:
    """Measure in turns, and print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    halts: dict[bool, list[float]] = {True: [], False: []}
    alone: list[float] = []
    beside: list[float] = []
    try:
        write_inputs(folder, folder / "run.py", adapter=False, sizes=SIZES)
        for _ in range(arguments.rounds):
            for wait in halts:
                computed, still, writing = watch(folder / "run.py", folder / "run", wait)
                # The first save copies the files that do not change, and the last step is saved too.
                halts[wait] += still[2 * INTERVAL - 1 : -1 : INTERVAL]
                for seconds, busy in list(zip(computed, writing, strict=True))[INTERVAL:]:
                    (beside if busy else alone).append(seconds)
    finally:
        shutil.rmtree(folder)
    waited, threaded = (statistics.median(halts[each]) for each in (True, False))
    usual, slowed = statistics.median(alone), statistics.median(beside)
    print(
        f"\ntraining stands still for {waited:.3f} s at a save that is waited for, for {threaded:.3f} s at one that"
    )
    print(f"a thread writes: {threaded / waited:.1%}")
    print(
        f"a step takes {usual:.3f} s, and {slowed:.3f} s while the thread writes ({slowed / usual - 1:+.0%})"
    )


if __name__ == "__main__":
    main()
