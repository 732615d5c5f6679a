"""Run several trainings one after the other on the same ranks: joining ranks takes longer than tiny runs do.

The script gets a file JOBS with a list of arguments of ``TrainOptions``. The first rank writes the error of each run
to ``JOBS.done``.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from helpers.forked import run_on_ranks


def run_jobs(folder: Path, jobs: list[dict[str, Any]], ranks: int = 2, timeout: int = 400) -> list[str]:
    """Run trainings on several ranks. Returns the error of each, empty where it went well."""
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs), encoding="utf-8")
    done = run_on_ranks(ranks, Path(__file__), str(file), paths=(folder,), timeout=timeout)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    errors: list[str] = json.loads((folder / "jobs.json.done").read_text(encoding="utf-8"))
    return errors


def main(file: Path) -> None:
    """Run the jobs of a file, on this rank."""
    from torch import distributed

    from xft.errors import XftError
    from xft.strategies.ddp import DistributedStrategy
    from xft.training.train import TrainOptions, train
    from xft.utils import console

    console.setup()
    console.silence_libraries()
    # Ranks stay joined: joining takes long, and DeepSpeed cannot do it twice in a process.
    DistributedStrategy.close = lambda self: None  # type: ignore[method-assign]
    errors = []
    for job in json.loads(file.read_text(encoding="utf-8")):
        begun = time.perf_counter()
        try:
            train(TrainOptions(launcher="pytorch", **job))
            errors.append("")
        except XftError as error:
            errors.append(str(error))
        print("took", job["work_dir"], time.perf_counter() - begun)
    if os.environ["RANK"] == "0":
        file.with_name(f"{file.name}.done").write_text(json.dumps(errors), encoding="utf-8")
    distributed.barrier()
    sys.stdout.flush()
    # Ranks are still joined, and an interpreter that goes while gloo's threads live aborts now and then.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
