"""Weights & Biases."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.errors import ConfigError
from xft.loggers.base import Logger, figures, ledger_text, remembered_run
from xft.registry import register
from xft.utils import console


@register("loggers", "wandb")
class WandB(Logger):
    """Weights & Biases: curves, config, and the sample questions as a table.

    Steps of W&B are those of the run, and it takes none twice. Where a run was killed behind its newest
    checkpoint, what W&B has of the steps up to there stays; the resumed run, which repeats them bit for
    bit, leaves them out. Offline, each start has a folder of its own.

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
        known = remembered_run(remembered, resume_step)
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
        # Of a run that goes on, the first step that the server does not have.
        self._first = self._run.step if known else 0
        if self._first > resume_step + 1:
            console.info(f"note: W&B has the steps up to {self._first - 1} of this run already")

    def record(self, values: Mapping[str, Any]) -> None:
        """A scalar for each figure, under ``split/name``."""
        split = values["split"]
        self._log({f"{split}/{name}": value for name, value in figures(values).items()}, values["step"])

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table with a row for each question."""
        columns = ["step", "question", "answer", "reference", "score", "stopped"]
        table = self._wandb.Table(columns=columns)
        for row in rows:
            table.add_data(step, *(row[key] for key in columns[1:]))
        self._log({"samples": table}, step)

    def _log(self, values: dict[str, Any], step: int) -> None:
        if step >= self._first:
            self._run.log({**values, "step": step}, step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()
