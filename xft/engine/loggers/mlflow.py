"""MLflow."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft import console
from xft.engine.loggers.base import Logger, config_text, figures, flat
from xft.errors import ConfigError
from xft.registry import register

EVERY = 5.0
"""Seconds between two sends: a server need not be asked in every step."""
MOST_METRICS, MOST_PARAMS = 1000, 100
"""What MLflow takes in one request."""
LONGEST_PARAM = 500
_SWITCHES = {
    # Nothing goes to anybody but to the server that was named.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # What it says of itself is not for the terminal.
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
    # Training waits for it: minutes of trying again are too long.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
MOST_WAITING = 50_000
"""Figures that wait for a server that does not answer; older ones are given up."""


@register("loggers", "mlflow")
class MLflow(Logger):
    """MLflow: curves, config, data report, and the sample questions as a table.

    Where the server does not answer while training goes on, figures wait, and the run goes on.

    Args:
        work_dir: the run folder.
        config: the config of the run.
        resume_step: continue the run from this step.
        project: the experiment, as MLflow calls it.
        name: of the run; that of the run folder where nothing is said.
        uri: of the tracking server or data base; ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` beside the run
            folder (``mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`` shows it).
    """

    def __init__(
        self,
        work_dir: Path,
        config: Mapping[str, Any],
        resume_step: int = 0,
        project: str = "xft",
        name: str | None = None,
        uri: str | None = None,
    ) -> None:
        for switch, value in _SWITCHES.items():
            os.environ.setdefault(switch, value)
        try:
            from mlflow.entities import Metric, Param, ViewType
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise ConfigError("loggers: mlflow is not installed: pip install mlflow") from error
        self._metric, self._work_dir = Metric, work_dir
        place = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{work_dir.parent / 'mlflow.db'}"
        local = place.startswith("sqlite:")
        try:
            self._client = MlflowClient(tracking_uri=place)
            found = self._client.search_experiments(ViewType.ALL, filter_string=f"name = {project!r}")
            if found:
                experiment = found[0].experiment_id
            else:
                artifacts = (work_dir.parent / "mlflow").as_uri() if local else None
                experiment = self._client.create_experiment(project, artifact_location=artifacts)
            params = [Param(key, text[:LONGEST_PARAM]) for key, text in flat(config)]
            self._run = self._open(experiment, name or work_dir.name, resume_step, params)
            self._client.log_text(self._run, config_text(config), "config.py")
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"loggers.mlflow: cannot start at {place} ({first}); start the server, or set loggers.mlflow.uri"
            ) from error
        self._waiting: list[Any] = []
        self._sent, self._complained = time.monotonic(), False

    def _open(self, experiment: str, name: str, resume_step: int, params: list[Any]) -> str:
        """The run: the one that is continued, or a new one."""
        remembered = self._work_dir / "mlflow_run_id"
        if resume_step and remembered.is_file():
            known = remembered.read_text().strip()
            self._client.update_run(known, status="RUNNING")
            return known
        run: str = self._client.create_run(experiment, run_name=name).info.run_id
        remembered.write_text(run)
        # Once only: MLflow lets no parameter change, and a resumed run may have changed some.
        for begin in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(run, params=params[begin : begin + MOST_PARAMS])
        return run

    def record(self, values: Mapping[str, Any]) -> None:
        """A metric for each figure, under ``split/name``."""
        split, now = values["split"], int(time.time() * 1000)
        self._waiting += [
            self._metric(f"{split}/{name}", value, now, values["step"])
            for name, value in figures(values).items()
        ]
        if time.monotonic() - self._sent > EVERY:
            self._send()

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table with a row for each question, which grows."""
        self._send()
        names = ("question", "answer", "reference", "score", "stopped")
        table = {"step": [step] * len(rows), **{name: [row[name] for row in rows] for name in names}}
        self._try(lambda: self._client.log_table(self._run, table, "samples.json"))

    def close(self) -> None:
        """Send what waits, and the data report, and end the run."""
        self._send()
        report = self._work_dir / "data_report.json"
        if report.is_file():
            self._try(lambda: self._client.log_artifact(self._run, str(report)))
        self._try(lambda: self._client.set_terminated(self._run))
        if self._waiting:
            console.say(
                f"warning: {len(self._waiting):,} figures did not reach MLflow; metrics.jsonl has them"
            )

    def _send(self) -> None:
        self._sent = time.monotonic()
        while self._waiting:
            part = self._waiting[:MOST_METRICS]
            if not self._try(lambda part=part: self._client.log_batch(self._run, metrics=part)):
                self._waiting = self._waiting[-MOST_WAITING:]
                return
            self._waiting = self._waiting[len(part) :]

    def _try(self, send: Any) -> bool:
        """Send; whether it went well. What goes wrong is said once."""
        try:
            send()
        except Exception as error:  # noqa: BLE001 - a logger does not end a training
            if not self._complained:
                first = str(error).strip().partition("\n")[0]
                console.say(f"warning: MLflow does not take the figures ({first}); training goes on")
            self._complained = True
            return False
        self._complained = False
        return True
