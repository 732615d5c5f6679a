"""MLflow."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xft.errors import ConfigError
from xft.loggers.base import Logger, config_text, figures, flat, remembered_run
from xft.registry import register
from xft.utils import console

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
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Training waits for it: minutes of trying again are too long.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
MOST_WAITING = 50_000
"""Figures that wait for a server that does not answer; older ones are given up."""
REMEMBERED = "mlflow_run_id"
SAMPLES = "samples.json"


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
        self._metric, self._param, self._work_dir, self._config = Metric, Param, work_dir, config
        self._name = name or work_dir.name
        self._waiting: list[Any] = []
        self._sent, self._complained = time.monotonic(), False
        self._sending = threading.Lock()
        self._position = {"step": resume_step, "time": 0}
        self._answers: list[dict[str, Any]] = []
        self._place = place = (
            uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{work_dir.parent / 'mlflow.db'}"
        )
        local = place.startswith("sqlite:")
        with self._starting():
            self._client = MlflowClient(tracking_uri=place)
            found = self._client.search_experiments(ViewType.ALL, filter_string=f"name = {project!r}")
            if found:
                self._experiment = found[0].experiment_id
            else:
                artifacts = (work_dir.parent / "mlflow").as_uri() if local else None
                self._experiment = self._client.create_experiment(project, artifact_location=artifacts)
            known = remembered_run(work_dir / REMEMBERED, resume_step)
            if known is not None:
                self._run = known
                self._client.update_run(self._run, status="RUNNING")
                self._answers = self._table()
            else:
                self._begin([Param(key, text[:LONGEST_PARAM]) for key, text in flat(config)])
            self._client.log_text(self._run, config_text(config), "config.py")

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """What goes wrong before the first step is said, and ends the run."""
        try:
            yield
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"loggers.mlflow: cannot start at {self._place} ({first}); start the server, or set "
                "loggers.mlflow.uri"
            ) from error

    def _begin(self, params: Sequence[Any]) -> None:
        """A new run of MLflow. Parameters are said once: it lets none change, and a resumed run may have
        changed some."""
        self._run = self._client.create_run(self._experiment, run_name=self._name).info.run_id
        for begin in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._run, params=params[begin : begin + MOST_PARAMS])
        (self._work_dir / REMEMBERED).write_text(self._run)

    def position(self) -> dict[str, int]:
        """The newest step, and when its newest figure came, in milliseconds."""
        return dict(self._position)

    def rewind(self, position: dict[str, int]) -> None:
        """Take away the figures and answers that came after ``position``.

        MLflow removes no figure. A run that has later ones is written anew up to there, and the old one is
        deleted, which in MLflow means that it can be restored for a while.
        """
        with self._starting():
            client, old = self._client, self._client.get_run(self._run)
            figures = [
                each for key in old.data.metrics for each in client.get_metric_history(self._run, key)
            ]
            kept = [
                each
                for each in figures
                if (each.step, each.timestamp if each.step == position["step"] else 0)
                <= (position["step"], position["time"])
            ]
            self._position = dict(position)
            if len(kept) == len(figures):
                return
            self._begin([self._param(key, text) for key, text in old.data.params.items()])
            for begin in range(0, len(kept), MOST_METRICS):
                client.log_batch(self._run, metrics=kept[begin : begin + MOST_METRICS])
            client.log_text(self._run, config_text(self._config), "config.py")
            rows = [row for row in self._answers if row["step"] <= position["step"]]
            self._answers = []
            if rows:
                self._put_table(rows)
            client.delete_run(old.info.run_id)

    def _table(self) -> list[dict[str, Any]]:
        """The sample questions that were sent."""
        if SAMPLES not in {each.path for each in self._client.list_artifacts(self._run)}:
            return []
        with tempfile.TemporaryDirectory() as folder:
            file = Path(self._client.download_artifacts(self._run, SAMPLES, folder))
            stored = json.loads(file.read_text(encoding="utf-8"))
        return [dict(zip(stored["columns"], row, strict=True)) for row in stored["data"]]

    def record(self, values: Mapping[str, Any]) -> None:
        """A metric for each figure, under ``split/name``."""
        split, step, now = values["split"], values["step"], int(time.time() * 1000)
        self._position = {"step": step, "time": now}
        new = [self._metric(f"{split}/{name}", value, now, step) for name, value in figures(values).items()]
        with self._sending:
            self._waiting += new
        if time.monotonic() - self._sent > EVERY:
            self._send()

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table with a row for each question, which grows."""
        self._send()
        names = ("question", "answer", "reference", "score", "stopped")
        new = [{"step": step, **{name: row[name] for name in names}} for row in rows]
        self._try(lambda: self._put_table([*self._answers, *new]))

    def _put_table(self, rows: list[dict[str, Any]]) -> None:
        """Write the table of answers whole. MLflow would read it to append, and take an answer like ``1.0``
        for a number; but what it wrote first it shows as a table."""
        columns = list(rows[0])
        if not self._answers:
            self._client.log_table(
                self._run, {each: [row[each] for row in rows] for each in columns}, SAMPLES
            )
        else:
            table = {"columns": columns, "data": [[row[each] for each in columns] for row in rows]}
            self._client.log_dict(self._run, table, SAMPLES)
        self._answers = rows

    def flush(self) -> None:
        """Send what waits: a checkpoint that is written must not be ahead of it."""
        self._send()

    def close(self) -> None:
        """Send what waits, and the data report, and end the run."""
        self._send()
        report = self._work_dir / "data_report.json"
        if report.is_file():
            self._try(lambda: self._client.log_artifact(self._run, str(report)))
        self._try(lambda: self._client.set_terminated(self._run))
        if self._waiting:
            console.info(
                f"warning: {len(self._waiting):,} figures did not reach MLflow; metrics.jsonl has them"
            )

    def _send(self) -> None:
        with self._sending:
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
                console.info(f"warning: MLflow does not take the figures ({first}); training goes on")
            self._complained = True
            return False
        self._complained = False
        return True
