"""SwanLab."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal

from xft.errors import ConfigError
from xft.loggers.base import ExperimentLogger, config_with_report, numeric_metrics
from xft.registry import register
from xft.types.ranges import CountOrZero
from xft.utils import console


@register("loggers", "swanlab")
class SwanLab(ExperimentLogger):
    """SwanLab: curves, config, data report, and the sample questions as a table.

    Terminal output is not sent. The server accepts each step once: it keeps the steps after the newest
    checkpoint, which the resumed run repeats bit for bit. Offline, each start writes a new folder.

    Args:
        work_dir: the run folder.
        config: the config of the run.
        resume_step: continue the run from this step.
        project: SwanLab project.
        name: of the run; by default that of the run folder.
        workspace: owner of the project; by default the logged-in user.
        mode: ``online``, ``offline`` (upload later with ``swanlab sync``) or ``disabled``.
    """

    backend = "swanlab"

    def __init__(
        self,
        work_dir: Path,
        config: Mapping[str, Any],
        resume_step: CountOrZero = 0,
        project: str = "xft",
        name: str | None = None,
        workspace: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
    ) -> None:
        try:
            import swanlab
        except ImportError as error:
            raise self.not_installed() from error
        self._table = swanlab.echarts.Table
        super().__init__(work_dir, name, resume_step)
        quiet = swanlab.Settings(interactive=False, terminal=swanlab.Settings.Terminal(proxy_type="none"))
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                self._run = swanlab.init(
                    project=project,
                    workspace=workspace,
                    name=self.name,
                    config=config_with_report(config, work_dir),
                    log_dir=str(work_dir / "swanlab"),
                    mode=mode,
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
        split = values["split"]
        named = {f"{split}/{name}": value for name, value in numeric_metrics(values).items()}
        self._run.log(named, step=values["step"])

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a table with one row per question."""
        columns = ["question", "answer", "reference", "score", "stopped"]
        table = self._table()
        table.add(["step", *columns], [[step, *(row[key] for key in columns)] for row in rows])
        self._run.log({"generations": table}, step=step)

    def close(self) -> None:
        """Finish the run."""
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            self._run.finish()
