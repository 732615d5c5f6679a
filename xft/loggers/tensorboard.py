"""TensorBoard."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.errors import ConfigError
from xft.loggers.base import Logger, answer_cells, config_text, data_report_text, numeric_metrics
from xft.registry import register
from xft.types.ranges import CountOrZero
from xft.utils.paths import no_follow


@register("loggers", "tensorboard")
class TensorBoard(Logger):
    """TensorBoard event files in ``tensorboard/`` of the run folder.

    A resumed run adds a file, and keeps the events of earlier files up to its step.
    """

    def __init__(self, work_dir: Path, config: Mapping[str, Any], resume_step: CountOrZero = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("loggers: tensorboard is not installed: pip install tensorboard") from error
        folder = work_dir / "tensorboard"
        for file in folder.glob("events.out.tfevents.*"):
            _cut(file, resume_step)
        # A TensorBoard that is open meanwhile discards the events that it has read.
        self._writer = SummaryWriter(str(folder), purge_step=resume_step + 1 if resume_step else None)
        self._writer.add_text("config", f"```python\n{config_text(config)}\n```")
        self._writer.add_text("data_report", f"```json\n{data_report_text(work_dir)}\n```")

    def record(self, values: Mapping[str, Any]) -> None:
        """Log each metric as a scalar named ``split/name``."""
        for name, value in numeric_metrics(values).items():
            self._writer.add_scalar(name, value, values["step"])

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a Markdown table."""
        lines = ["| question | answer | reference | score |", "|---|---|---|---|"]
        for row in rows:
            values = answer_cells(row)
            cells = [_cell(values[key]) for key in ("question", "answer", "reference", "score")]
            lines.append("| " + " | ".join(cells) + " |")
        self._writer.add_text("generations", "\n".join(lines), step)
        self._writer.flush()

    def flush(self) -> None:
        """Write buffered events; a checkpoint must not be newer than its events."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


def _cut(file: Path, resume_step: int) -> None:
    """Keep the events of a file up to a step; step 0 deletes the file."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    if not resume_step:
        file.unlink()
        return
    temporary = file.with_name(f"new.{file.name}")
    with open(temporary, "wb", opener=no_follow) as out:
        writer = RecordWriter(out)
        for event in RawEventFileLoader(str(file)).Load():  # ends where a kill has cut an event in two
            if Event.FromString(event).step <= resume_step:
                writer.write(event)
    os.replace(temporary, file)


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", "<br>")
