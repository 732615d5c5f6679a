"""Weights & Biases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from xft.errors import ConfigError
from xft.loggers.base import (
    ANSWER_COLUMNS,
    ExperimentLogger,
    answer_cells,
    config_with_report,
    numeric_metrics,
)
from xft.registry import register
from xft.utils import console


@register("loggers", "wandb")
@dataclass(eq=False)
class WandB(ExperimentLogger):
    """Weights & Biases: curves, config, and the sample questions as a table.

    W&B accepts each step once. If a run was killed after its newest checkpoint, W&B keeps the later steps;
    the resumed run repeats them bit for bit and does not send them. Offline, each start writes a new folder.

    Args:
        project: W&B project.
        entity: owner of the project; by default that of the account.
        mode: ``online``, ``offline`` (upload later with ``wandb sync``) or ``disabled``.
    """

    backend: ClassVar[str] = "wandb"

    entity: str | None = None
    mode: Literal["online", "offline", "disabled"] | None = None

    def start(self) -> None:
        """Start or continue the run."""
        import wandb

        self._table = wandb.Table
        try:
            self._run = wandb.init(
                project=self.project,
                entity=self.entity,
                name=self.name,
                config=config_with_report(self.config, self.work_dir),
                dir=str(self.work_dir),
                mode=self.mode,
                id=self.resumed_id,
                resume="allow" if self.resumed_id else None,
            )
        except Exception as error:
            raise ConfigError(
                f"loggers.wandb: cannot start ({error}); `wandb login`, or loggers.wandb.mode='offline'",
                key="loggers.wandb",
                got=str(error),
            ) from error
        self.remember_run(self._run.id)
        # The first step that the server of a resumed run lacks.
        self._first = self._run.step if self.resumed_id else 0
        if self._first > self.resume_step + 1:
            console.info(f"note: W&B already has the steps up to {self._first - 1} of this run")

    def record(self, values: Mapping[str, Any]) -> None:
        """Log each metric as a scalar named ``split/name``."""
        self._log(numeric_metrics(values), values["step"])

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a table with one row per question."""
        data = [[step, *answer_cells(row).values()] for row in rows]
        table = self._table(columns=["step", *ANSWER_COLUMNS], data=data)
        self._log({"generations": table}, step)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        if step >= self._first:
            self._run.log({**values, "step": step}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
