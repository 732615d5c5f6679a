"""Base class of the loggers, and functions that several loggers share."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from xft.errors import ConfigError
from xft.types.ranges import CountOrZero
from xft.utils.generation_records import title_of
from xft.utils.paths import write_text

ANSWER_COLUMNS = ("question", "answer", "reference", "score", "stopped")
"""Columns of the sample questions that trackers show."""


def answer_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of ``ANSWER_COLUMNS``; the question has the names of its images."""
    question = title_of(row["question"], row.get("images", ()))
    return {name: row[name] for name in ANSWER_COLUMNS} | {"question": question}


class Logger:
    """Receive the records of a run. Every method may be left out."""

    def record(self, values: Mapping[str, Any]) -> None:
        """Log one record of ``metrics.jsonl``: ``step``, ``split`` and metrics."""

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the answers to the sample questions at a step."""

    def rollouts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the prompts of a step of reinforcement learning, each with its completions and their rewards."""

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


@dataclass(eq=False)
class ExperimentLogger(Logger, ABC):
    """Share naming, resuming and config of loggers that send a run to an experiment tracker.

    Args:
        work_dir: the run folder.
        config: the config of the run.
        resume_step: continue the run from this step; 0 starts a new run.
        project: project of the tracker, which groups runs.
        name: of the run; by default that of the run folder.

    Attributes:
        backend: package of the tracker, key under ``loggers``, and prefix of the file with the ID of the run.
        resumed_id: ID of the run to continue; ``None`` starts a new one.
    """

    backend: ClassVar[str]

    work_dir: Path
    config: Mapping[str, Any]
    resume_step: CountOrZero = 0
    project: str = "xft"
    name: str | None = None

    def __post_init__(self) -> None:
        self.name = self.name or self.work_dir.name
        self._id_file = self.work_dir / f"{self.backend}_run_id"
        resumes = self.resume_step and self._id_file.is_file()
        self.resumed_id = self._id_file.read_text().strip() if resumes else None
        try:
            self.start()
        except ImportError as error:
            raise ConfigError(
                f"loggers: {self.backend} is not installed: pip install {self.backend}",
                key=f"loggers.{self.backend}",
            ) from error

    @abstractmethod
    def start(self) -> None:
        """Start or continue the run.

        Raises:
            ConfigError: the tracker cannot be reached, or refuses the run.
            ImportError: its package is not installed.
        """

    def remember_run(self, run_id: str) -> None:
        """Write the ID of the run, which a resumed run continues."""
        write_text(self._id_file, run_id)


def config_with_report(config: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """Return the config with the data report under ``data_report``."""
    return {**config, "data_report": json.loads(data_report_text(work_dir) or "{}")}


def numeric_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record except its step, by ``split/name``."""
    return {
        f"{values['split']}/{name}": value
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


def flatten(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of a config as texts, by dotted key."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", str(value)
