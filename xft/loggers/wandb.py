"""Weights & Biases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.errors import ConfigError
from xft.loggers.base import ExperimentLogger, config_with_report, numeric_metrics
from xft.registry import register
from xft.types.ranges import CountOrZero
from xft.utils import console


@register("loggers", "wandb")
class WandB(ExperimentLogger):
    """Weights & Biases: curves, config, and the sample questions as a table.

    W&B accepts each step once. If a run was killed after its newest checkpoint, W&B keeps the later steps;
    the resumed run repeats them bit for bit and does not send them. Offline, each start writes a new folder.

    Args:
        work_dir: the run folder.
        config: the config of the run.
        resume_step: continue the run from this step.
        project: W&B project.
        name: of the run; by default that of the run folder.
        mode: ``online``, ``offline`` (upload later with ``wandb sync``) or ``disabled``.
    """

    backend = "wandb"

    def __init__(
        self,
        work_dir: Path,
        config: Mapping[str, Any],
        resume_step: CountOrZero = 0,
        project: str = "xft",
        name: str | None = None,
        entity: str | None = None,
        mode: str | None = None,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise self.not_installed() from error
        self._wandb = wandb
        super().__init__(work_dir, name, resume_step)
        try:
            self._run = wandb.init(
                project=project,
                entity=entity,
                name=self.name,
                config=config_with_report(config, work_dir),
                dir=str(work_dir),
                mode=mode,  # type: ignore[arg-type]
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
        if self._first > resume_step + 1:
            console.info(f"note: W&B already has the steps up to {self._first - 1} of this run")

    def record(self, values: Mapping[str, Any]) -> None:
        """Log each metric as a scalar named ``split/name``."""
        split = values["split"]
        self._log(
            {f"{split}/{name}": value for name, value in numeric_metrics(values).items()}, values["step"]
        )

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a table with one row per question."""
        columns = ["step", "question", "answer", "reference", "score", "stopped"]
        table = self._wandb.Table(columns=columns)
        for row in rows:
            table.add_data(step, *(row[key] for key in columns[1:]))
        self._log({"generations": table}, step)

    def _log(self, values: dict[str, Any], step: int) -> None:
        if step >= self._first:
            self._run.log({**values, "step": step}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
