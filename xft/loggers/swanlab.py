"""SwanLab."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
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


@register("loggers", "swanlab")
@dataclass(eq=False)
class SwanLab(ExperimentLogger):
    """SwanLab: curves, config, data report, and the sample questions as a table.

    Terminal output is not sent. The server accepts each step once: it keeps the steps after the newest
    checkpoint, which the resumed run repeats bit for bit. Offline, each start writes a new folder.

    Args:
        project: SwanLab project.
        workspace: owner of the project; by default the logged-in user.
        mode: ``online``, ``offline`` (upload later with ``swanlab sync``) or ``disabled``.
    """

    backend: ClassVar[str] = "swanlab"

    workspace: str | None = None
    mode: Literal["online", "offline", "disabled"] | None = None

    def start(self) -> None:
        """Start or continue the run."""
        import swanlab

        self._table = swanlab.echarts.Table
        quiet = swanlab.Settings(interactive=False, terminal=swanlab.Settings.Terminal(proxy_type="none"))
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                self._run = swanlab.init(
                    project=self.project,
                    workspace=self.workspace,
                    name=self.name,
                    config=config_with_report(self.config, self.work_dir),
                    log_dir=str(self.work_dir / "swanlab"),
                    mode=self.mode,
                    id=self.resumed_id,
                    resume="allow" if self.resumed_id else None,
                    settings=quiet,
                    reinit=True,
                )
        except Exception as error:
            raise ConfigError(
                f"loggers.swanlab: cannot start ({error}); `swanlab login`, or loggers.swanlab.mode='offline'"
            ) from error
        self.remember_run(self._run.id)
        if self._run.mode == "online":
            console.info(f"SwanLab run: {self._run.url}")

    def record(self, values: Mapping[str, Any]) -> None:
        """Log each metric as a scalar named ``split/name``."""
        self._run.log(numeric_metrics(values), step=values["step"])

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a table with one row per question."""
        table = self._table()
        data = [[step, *answer_cells(row).values()] for row in rows]
        table.add(["step", *ANSWER_COLUMNS], data)
        self._run.log({"generations": table}, step=step)

    def close(self) -> None:
        """Finish the run."""
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            self._run.finish()
