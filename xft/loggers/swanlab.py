"""SwanLab."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal

from xft.errors import ConfigError
from xft.loggers.base import Logger, figures, ledger_text, remembered_run
from xft.registry import register
from xft.utils import console


@register("loggers", "swanlab")
class SwanLab(Logger):
    """SwanLab: curves, config, data report, and the sample questions as a table.

    What is printed on the terminal is not sent. Its server takes no step twice: of a run that was killed
    behind its newest checkpoint it keeps what it has, which the resumed run repeats bit for bit. Offline,
    each start has a folder of its own.

    Args:
        work_dir: the run folder.
        config: the config of the run.
        resume_step: continue the run from this step.
        project: as SwanLab has it.
        name: of the run; that of the run folder where nothing is said.
        workspace: whose project it is; your own where nothing is said.
        mode: ``online``, ``offline`` (upload later with ``swanlab sync``) or ``disabled``.
    """

    def __init__(
        self,
        work_dir: Path,
        config: Mapping[str, Any],
        resume_step: int = 0,
        project: str = "xft",
        name: str | None = None,
        workspace: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
    ) -> None:
        try:
            import swanlab
        except ImportError as error:
            raise ConfigError("loggers: swanlab is not installed: pip install swanlab") from error
        self._table = swanlab.echarts.Table
        remembered = work_dir / "swanlab_run_id"
        known = remembered_run(remembered, resume_step)
        quiet = swanlab.Settings(interactive=False, terminal=swanlab.Settings.Terminal(proxy_type="none"))
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                self._run = swanlab.init(
                    project=project,
                    workspace=workspace,
                    name=name or work_dir.name,
                    config={**config, "data_report": json.loads(ledger_text(work_dir) or "{}")},
                    log_dir=str(work_dir / "swanlab"),
                    mode=mode,
                    id=known,
                    resume="allow" if known else None,
                    settings=quiet,
                    reinit=True,
                )
        except Exception as error:
            raise ConfigError(
                f"loggers.swanlab: cannot start ({error}); `swanlab login`, or loggers.swanlab.mode='offline'"
            ) from error
        remembered.write_text(self._run.id)
        if self._run.mode == "online":
            console.info(f"SwanLab shows the run at {self._run.url}")

    def record(self, values: Mapping[str, Any]) -> None:
        """A scalar for each figure, under ``split/name``."""
        split = values["split"]
        named = {f"{split}/{name}": value for name, value in figures(values).items()}
        self._run.log(named, step=values["step"])

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table with a row for each question."""
        columns = ["question", "answer", "reference", "score", "stopped"]
        table = self._table()
        table.add(["step", *columns], [[step, *(row[key] for key in columns)] for row in rows])
        self._run.log({"samples": table}, step=step)

    def close(self) -> None:
        """End the run."""
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            self._run.finish()
