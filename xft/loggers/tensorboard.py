"""TensorBoard."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.errors import ConfigError
from xft.loggers.base import Logger, config_text, figures, ledger_text
from xft.registry import register


@register("loggers", "tensorboard")
class TensorBoard(Logger):
    """TensorBoard event files in ``tensorboard/`` of the run folder.

    A resumed run writes a further file; of earlier ones the events up to its step are kept.
    """

    def __init__(self, work_dir: Path, config: Mapping[str, Any], resume_step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("loggers: tensorboard is not installed: pip install tensorboard") from error
        folder = work_dir / "tensorboard"
        for file in folder.glob("events.out.tfevents.*"):
            _cut(file, resume_step)
        # Who looks on meanwhile is told to pass over what it has read.
        self._writer = SummaryWriter(str(folder), purge_step=resume_step + 1 if resume_step else None)
        self._writer.add_text("config", f"```python\n{config_text(config)}\n```")
        self._writer.add_text("data_report", f"```json\n{ledger_text(work_dir)}\n```")

    def record(self, values: Mapping[str, Any]) -> None:
        """A scalar for each figure, under ``split/name``."""
        for name, value in figures(values).items():
            self._writer.add_scalar(f"{values['split']}/{name}", value, values["step"])

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A Markdown table."""
        lines = ["| question | answer | reference | score |", "|---|---|---|---|"]
        for row in rows:
            cells = [_cell(row[key]) for key in ("question", "answer", "reference", "score")]
            lines.append("| " + " | ".join(cells) + " |")
        self._writer.add_text("samples", "\n".join(lines), step)
        self._writer.flush()

    def flush(self) -> None:
        """Write what waits: a checkpoint that is written must not be ahead of it."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


def _cut(file: Path, resume_step: int) -> None:
    """Keep the events of a file up to a step; none where the run begins anew."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    if not resume_step:
        file.unlink()
        return
    temporary = file.with_name(f"new.{file.name}")
    with temporary.open("wb") as out:
        writer = RecordWriter(out)
        for event in RawEventFileLoader(str(file)).Load():  # ends where a kill has cut an event in two
            if Event.FromString(event).step <= resume_step:
                writer.write(event)
    os.replace(temporary, file)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", "<br>")
