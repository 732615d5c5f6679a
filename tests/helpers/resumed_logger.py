"""Records of a run that is killed after its newest checkpoint and then resumed, for tests of loggers."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xft.loggers import Logger

CONFIG = {"seed": 0, "model": {"path": "somewhere"}}
EXPECTED_LOSSES = [(step, float(step)) for step in range(1, 9)]
"""Step and loss of each record that remains after ``write_killed_and_resumed``."""


def write_steps(logger: Logger, steps: Iterable[int], offset: float = 0.0) -> None:
    """Log a loss at every step, and an answer at every second step."""
    for step in steps:
        logger.record({"step": step, "split": "train", "loss": step + offset})
        if step % 2 == 0:
            row = {"question": "Why?", "answer": f"{step + offset}", "reference": None}
            logger.generations(step, [{**row, "score": 0.0, "stopped": True}])


def write_killed_and_resumed(make: Any, folder: Path, **options: Any) -> None:
    """Log steps 1 to 7 with a checkpoint after step 4, no ``close``, and then steps 5 to 8 in a resumed run."""
    killed: Logger = make(folder, CONFIG, **options)
    write_steps(killed, range(1, 5))
    killed.flush()
    position = killed.checkpoint_position()
    write_steps(killed, range(5, 8), offset=0.5)
    killed.flush()
    resumed: Logger = make(folder, CONFIG, resume_step=4, **options)
    if position is not None:
        resumed.truncate_to_step(json.loads(json.dumps(position)))
    write_steps(resumed, range(5, 9))
    resumed.close()
