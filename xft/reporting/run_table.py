"""A table of runs for the terminal: score, loss, time and state of each."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from xft.errors import ConfigError
from xft.reporting.outcome import Change, outcome_of
from xft.reporting.run_folder import RunFolder, is_run_folder, read_run
from xft.utils.console import escape_line, format_duration

HEADER = ("run", "score", "validation", "general", "time", "steps", "started")


def find_runs(folders: Sequence[str | Path]) -> list[Path]:
    """Return the run folders among some folders and directly below them, the newest last.

    Raises:
        ConfigError: a folder does not exist, or there is no run.
    """
    runs: dict[Path, None] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ConfigError(key="DIR", got=str(folder), expected="a folder of runs, or a run folder")
        below = [path for path in folder.iterdir() if path.is_dir()]
        runs |= dict.fromkeys(path for path in (folder, *below) if is_run_folder(path))
    if not runs:
        raise ConfigError(
            key="DIR", got=", ".join(map(str, folders)), expected="a folder with at least one run in it"
        )
    return sorted(runs, key=lambda path: (path.stat().st_mtime, str(path)))


def format_runs(folders: Sequence[str | Path]) -> Iterator[str]:
    """Yield the lines of the table.

    Raises:
        ConfigError: see :func:`find_runs`.
    """
    table = [HEADER, *(_cells(path, read_run(path)) for path in find_runs(folders))]
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns]
    # A column that no run fills is left out.
    filled = [index for index, column in enumerate(columns) if any(column[1:])]
    for cells in table:
        yield "  ".join(cells[index].ljust(widths[index]) for index in filled).rstrip()


def _cells(path: Path, run: RunFolder) -> tuple[str, ...]:
    outcome = outcome_of(run)
    section = run.environment.get("run")
    started = str(section.get("started_at", "")) if isinstance(section, dict) else ""
    planned = run.num_steps
    steps = f"{run.last_step:,}" if run.finished or planned is None else f"{run.last_step:,} of {planned:,}"
    time = "" if outcome.seconds is None else format_duration(outcome.seconds)
    return (
        escape_line(str(path)),
        _change(outcome.score),
        _change(outcome.validation),
        _change(outcome.general),
        time,
        steps,
        escape_line(started[:16].replace("T", " ")),
    )


def _change(change: Change | None) -> str:
    if change is None:
        return ""
    total = f"/{change.total}" if change.total else ""
    before = "?" if change.before is None else f"{change.before:.3g}"
    return f"{before} → {change.after:.3g}{total}"
