"""Base class of the loggers, and functions that several loggers share."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.errors import ConfigError
from xft.utils.paths import write_text


class Logger:
    """Receive the records of a run. Every method may be left out."""

    def record(self, values: Mapping[str, Any]) -> None:
        """Log one record of ``metrics.jsonl``: ``step``, ``split`` and metrics."""

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the answers to the sample questions at a step."""

    def checkpoint_position(self) -> Any:
        """Return the position to store in a checkpoint, as JSON data; ``None`` if records cannot be removed."""
        return None

    def truncate_to_step(self, position: Any) -> None:
        """Remove the records after ``position``, which the resumed checkpoint stores."""

    def flush(self) -> None:
        """Write buffered records to disk. May be called from another thread.

        Raises:
            OSError: the disk is full or not writable.
        """

    def close(self) -> None:
        """Release resources; no record follows."""


class ExperimentLogger(Logger):
    """Share naming, resuming and config of loggers that send a run to an experiment tracker.

    Args:
        work_dir: the run folder.
        name: of the run; by default that of the run folder.
        resume_step: step of the resumed checkpoint; 0 starts a new run.

    Attributes:
        backend: key under ``loggers``, and prefix of the file with the ID of the run.
        name: name of the run.
        resumed_id: ID of the run to continue; ``None`` starts a new one.
    """

    backend: str

    def __init__(self, work_dir: Path, name: str | None, resume_step: int) -> None:
        self._id_file = work_dir / f"{self.backend}_run_id"
        self.name = name or work_dir.name
        self.resumed_id = previous_run_id(self._id_file, resume_step)

    def remember_run(self, run_id: str) -> None:
        """Write the ID of the run, which a resumed run continues."""
        write_text(self._id_file, run_id)

    @classmethod
    def not_installed(cls) -> ConfigError:
        """Return the error for a missing package."""
        return ConfigError(
            f"loggers: {cls.backend} is not installed: pip install {cls.backend}",
            key=f"loggers.{cls.backend}",
        )


def config_with_report(config: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """Return the config with the data report under ``data_report``."""
    return {**config, "data_report": json.loads(data_report_text(work_dir) or "{}")}


def numeric_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record, except its step."""
    return {
        name: value
        for name, value in values.items()
        if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def config_text(config: Mapping[str, Any]) -> str:
    """Return the config as the text of a config file."""
    from xft.config import dump_config

    return dump_config(dict(config))


def data_report_text(work_dir: Path) -> str:
    """Return the data report of the run as JSON; empty if there is none."""
    path = work_dir / "data_report.json"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def previous_run_id(file: Path, resume_step: int) -> str | None:
    """Return the tracker's ID of the run being resumed; ``None`` for a new run."""
    return file.read_text().strip() if resume_step and file.is_file() else None


def flatten(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of a config as texts, by dotted key."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", str(value)
