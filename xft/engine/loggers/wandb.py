"""Weights & Biases."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.engine.loggers.base import Logger, figures, ledger_text
from xft.errors import ConfigError
from xft.registry import register


@register("loggers", "wandb")
class WandB(Logger):
    """Weights & Biases: curves, config, and the sample questions as a table.

    Args:
        work_dir: the run folder.
        config: the config of the run.
        resume_step: continue the run from this step.
        project: as W&B has it.
        name: of the run; that of the run folder where nothing is said.
        mode: ``online``, ``offline`` (upload later with ``wandb sync``) or ``disabled``.
    """

    def __init__(
        self,
        work_dir: Path,
        config: Mapping[str, Any],
        resume_step: int = 0,
        project: str = "xft",
        name: str | None = None,
        entity: str | None = None,
        mode: str | None = None,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("loggers: wandb is not installed: pip install wandb") from error
        self._wandb = wandb
        remembered = work_dir / "wandb_run_id"
        known = remembered.read_text().strip() if resume_step and remembered.is_file() else None
        try:
            self._run = wandb.init(
                project=project,
                entity=entity,
                name=name or work_dir.name,
                config={**config, "data_report": json.loads(ledger_text(work_dir) or "{}")},
                dir=str(work_dir),
                mode=mode,  # type: ignore[arg-type]
                id=known,
                resume="allow" if known else None,
            )
        except Exception as error:
            raise ConfigError(
                f"loggers.wandb: cannot start ({error}); `wandb login`, or loggers.wandb.mode='offline'"
            ) from error
        remembered.write_text(self._run.id)

    def record(self, values: Mapping[str, Any]) -> None:
        """A scalar for each figure, under ``split/name``."""
        split = values["split"]
        named = {f"{split}/{name}": value for name, value in figures(values).items()}
        self._run.log({**named, "step": values["step"]})

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table with a row for each question."""
        columns = ["step", "question", "answer", "reference", "score", "stopped"]
        table = self._wandb.Table(columns=columns)
        for row in rows:
            table.add_data(step, *(row[key] for key in columns[1:]))
        self._run.log({"samples": table, "step": step})

    def close(self) -> None:
        """End the run."""
        self._run.finish()
