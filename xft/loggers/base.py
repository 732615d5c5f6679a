"""What a logger is, and what several of them need."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


class Logger:
    """Receives records. What a logger has no use for it lets pass."""

    def record(self, values: Mapping[str, Any]) -> None:
        """One record of ``metrics.jsonl``: ``step``, ``split`` and figures."""

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """The sample questions and their answers at a step."""

    def position(self) -> Any:
        """How much it has received, for a checkpoint, as JSON has it; ``None`` where it cannot go back."""
        return None

    def rewind(self, position: Any) -> None:
        """Take away what came after ``position``: the run goes on from the checkpoint that has it."""

    def flush(self) -> None:
        """Put what it has received on the disk. It may be called from another thread.

        Raises:
            OSError: the disk does not take it.
        """

    def close(self) -> None:
        """Nothing more will come."""


def figures(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record, without its step."""
    return {
        name: value
        for name, value in values.items()
        if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def config_text(config: Mapping[str, Any]) -> str:
    """The config as a file says it."""
    from xft.config import dump_config

    return dump_config(dict(config))


def ledger_text(work_dir: Path) -> str:
    """The data report of the run, as JSON; empty where there is none."""
    path = work_dir / "data_report.json"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def remembered_run(file: Path, resume_step: int) -> str | None:
    """The name under which a back end knows the run that goes on; ``None`` where a new one begins."""
    return file.read_text().strip() if resume_step and file.is_file() else None


def flat(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """The values of a config by dotted key, as texts."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", str(value)
