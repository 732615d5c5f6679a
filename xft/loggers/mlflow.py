"""MLflow."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from xft.errors import ConfigError
from xft.loggers.base import ExperimentLogger, answer_cells, config_text, flatten, numeric_metrics
from xft.registry import register
from xft.utils import console

EVERY = 5.0
"""Seconds between two requests, to spare the server a request per step."""
MOST_METRICS, MOST_PARAMS = 1000, 100
"""Limits of one MLflow request."""
LONGEST_PARAM = 500
_SWITCHES = {
    # Send data to the configured server only.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Keep MLflow's own messages off the terminal.
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Why: training blocks on a request, and retrying for minutes is too long.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
MOST_WAITING = 50_000
"""Limit of queued metrics while the server does not answer; the oldest are dropped."""
GENERATIONS = "generations.json"


@register("loggers", "mlflow")
@dataclass(eq=False)
class MLflow(ExperimentLogger):
    """MLflow: curves, config, data report, and the sample questions as a table.

    While the server does not answer, metrics are queued and training continues.

    Args:
        project: MLflow experiment.
        uri: of the tracking server or data base; ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` next to the
            run folder (``mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`` shows it).
    """

    backend: ClassVar[str] = "mlflow"

    uri: str | None = None

    def start(self) -> None:
        """Create or continue the run."""
        for switch, value in _SWITCHES.items():
            os.environ.setdefault(switch, value)
        from mlflow.entities import Metric, Param, ViewType
        from mlflow.tracking import MlflowClient

        self._metric, self._param = Metric, Param
        self._waiting: list[Any] = []
        self._sent, self._complained = time.monotonic(), False
        self._sending = threading.Lock()
        self._position = {"step": self.resume_step, "time": 0}
        self._answers: list[dict[str, Any]] = []
        folder = self.work_dir.parent
        self._place = (
            self.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
        )
        with self._starting():
            self._client = MlflowClient(tracking_uri=self._place)
            experiments = self._client.search_experiments(
                ViewType.ALL, filter_string=f"name = {self.project!r}"
            )
            if experiments:
                self._experiment = experiments[0].experiment_id
            else:
                artifacts = (folder / "mlflow").as_uri() if self._place.startswith("sqlite:") else None
                self._experiment = self._client.create_experiment(self.project, artifact_location=artifacts)
            if self.resumed_id is not None:
                self._run = self.resumed_id
                self._client.update_run(self._run, status="RUNNING")
                self._answers = self._table()
            else:
                self._begin([Param(key, text[:LONGEST_PARAM]) for key, text in flatten(self.config)])
            self._client.log_text(self._run, config_text(self.config), "config.py")

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Turn errors before the first step into a ConfigError, which ends the run."""
        try:
            yield
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"loggers.mlflow: cannot start at {self._place} ({first}); start the server, or set "
                "loggers.mlflow.uri"
            ) from error

    def _begin(self, params: Sequence[Any]) -> None:
        """Create an MLflow run and log its parameters.

        MLflow parameters are immutable, and a resumed run may have changed some: they are logged only here.
        """
        self._run = self._client.create_run(self._experiment, run_name=self.name).info.run_id
        for begin in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._run, params=params[begin : begin + MOST_PARAMS])
        self.remember_run(self._run)

    def checkpoint_position(self) -> dict[str, int]:
        """Return the newest step and the time of its newest metric in milliseconds."""
        return dict(self._position)

    def truncate_to_step(self, position: dict[str, int]) -> None:
        """Remove the metrics and answers after ``position``.

        MLflow cannot remove metrics. A run with later ones is copied up to the position, and the original is
        deleted, which in MLflow means that it can be restored for a while.
        """
        with self._starting():
            client, old = self._client, self._client.get_run(self._run)
            logged = [
                metric for key in old.data.metrics for metric in client.get_metric_history(self._run, key)
            ]
            kept = [
                metric
                for metric in logged
                if (metric.step, metric.timestamp if metric.step == position["step"] else 0)
                <= (position["step"], position["time"])
            ]
            self._position = dict(position)
            if len(kept) == len(logged):
                return
            self._begin([self._param(key, text) for key, text in old.data.params.items()])
            for begin in range(0, len(kept), MOST_METRICS):
                client.log_batch(self._run, metrics=kept[begin : begin + MOST_METRICS])
            client.log_text(self._run, config_text(self.config), "config.py")
            rows = [row for row in self._answers if row["step"] <= position["step"]]
            self._answers = []
            if rows:
                self._put_table(rows)
            client.delete_run(old.info.run_id)

    def _table(self) -> list[dict[str, Any]]:
        """Return the answers that MLflow has stored."""
        if GENERATIONS not in {artifact.path for artifact in self._client.list_artifacts(self._run)}:
            return []
        with tempfile.TemporaryDirectory() as folder:
            file = Path(self._client.download_artifacts(self._run, GENERATIONS, folder))
            stored = json.loads(file.read_text(encoding="utf-8"))
        return [dict(zip(stored["columns"], row, strict=True)) for row in stored["data"]]

    def record(self, values: Mapping[str, Any]) -> None:
        """Queue each metric under ``split/name``."""
        step, now = values["step"], int(time.time() * 1000)
        self._position = {"step": step, "time": now}
        new = [self._metric(name, value, now, step) for name, value in numeric_metrics(values).items()]
        with self._sending:
            self._waiting += new
        if time.monotonic() - self._sent > EVERY:
            self._send()

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append one row per question to the table of answers."""
        self._send()
        new = [{"step": step, **answer_cells(row)} for row in rows]
        self._try(lambda: self._put_table([*self._answers, *new]))

    def _put_table(self, rows: list[dict[str, Any]]) -> None:
        """Write the complete table of answers.

        Why: MLflow appends by parsing the table, which turns an answer like ``1.0`` into a number. The first
        write uses ``log_table``, because MLflow displays only such files as tables.
        """
        columns = list(rows[0])
        if not self._answers:
            self._client.log_table(
                self._run, {column: [row[column] for row in rows] for column in columns}, GENERATIONS
            )
        else:
            table = {"columns": columns, "data": [[row[column] for column in columns] for row in rows]}
            self._client.log_dict(self._run, table, GENERATIONS)
        self._answers = rows

    def flush(self) -> None:
        """Send queued metrics; a checkpoint must not be newer than its metrics."""
        self._send()

    def close(self) -> None:
        """Send queued metrics and the data report, and finish the run."""
        self._send()
        report = self.work_dir / "data_report.json"
        if report.is_file():
            self._try(lambda: self._client.log_artifact(self._run, str(report)))
        self._try(lambda: self._client.set_terminated(self._run))
        if self._waiting:
            console.info(
                f"warning: {len(self._waiting):,} metrics were not sent to MLflow; metrics.jsonl has them"
            )

    def _send(self) -> None:
        with self._sending:
            self._sent = time.monotonic()
            while self._waiting:
                part = self._waiting[:MOST_METRICS]
                if not self._try(partial(self._client.log_batch, self._run, metrics=part)):
                    self._waiting = self._waiting[-MOST_WAITING:]
                    return
                self._waiting = self._waiting[len(part) :]

    def _try(self, send: Callable[[], object]) -> bool:
        """Send, and return whether that succeeded. The first of several failures is logged."""
        try:
            send()
        except Exception as error:  # noqa: BLE001 - a logger does not end a training
            if not self._complained:
                first = str(error).strip().partition("\n")[0]
                console.info(f"warning: cannot send metrics to MLflow ({first}); training continues")
            self._complained = True
            return False
        self._complained = False
        return True
