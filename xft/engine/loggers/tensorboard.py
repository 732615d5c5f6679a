"""TensorBoard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.engine.loggers.base import Logger, config_text, figures, ledger_text
from xft.errors import ConfigError
from xft.registry import register


@register("loggers", "tensorboard")
class TensorBoard(Logger):
    """TensorBoard event files in ``tensorboard/`` of the run folder."""

    def __init__(self, work_dir: Path, config: Mapping[str, Any], resume_step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("loggers: tensorboard is not installed: pip install tensorboard") from error
        self._writer = SummaryWriter(
            str(work_dir / "tensorboard"), purge_step=resume_step + 1 if resume_step else None
        )
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

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", "<br>")
