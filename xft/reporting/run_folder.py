"""Read what a run left in its folder: a run that ended, one that is at work, or one that was killed."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xft.errors import ConfigError

ENVIRONMENT = "environment.json"
"""What the run said of its machine, its libraries and its plan."""
_WARNING = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (?:warning: |warning   )(.*)$")


@dataclass
class RunFolder:
    """What a run left.

    Attributes:
        path: the folder.
        metrics: the records of ``metrics.jsonl``.
        samples: those of ``generations.jsonl``.
        ledger: ``data_report.json``.
        environment: ``environment.json``.
        config_text: ``config.py``.
        warnings: what was warned of, each once, in order.
        model: the folder of the model that can be used: ``final``, or the last checkpoint.
    """

    path: Path
    metrics: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    ledger: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    warnings: list[str] = field(default_factory=list)
    model: Path | None = None

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.model is not None and self.model.name == "final"

    @property
    def last_step(self) -> int:
        """The last step that is known."""
        return max((each["step"] for each in self.metrics), default=0)

    @property
    def num_steps(self) -> int | None:
        """The steps that were planned, where that is known."""
        found = self.environment.get("plan", {}).get("steps")
        return found if isinstance(found, int) else None

    def figures(self, split: str) -> list[str]:
        """The names of the figures of a split, in the order in which they came up."""
        names: dict[str, None] = {}
        for each in self.metrics:
            if each["split"] == split:
                names.update(dict.fromkeys(key for key in each if key not in ("step", "split")))
        return list(names)

    def points(self, split: str, name: str) -> list[tuple[float, float | None]]:
        """A figure of a split over the steps; ``None`` where a record has it and it is none."""
        return [
            (each["step"], _number(each[name]))
            for each in self.metrics
            if each["split"] == split and name in each
        ]

    def config(self) -> dict[str, str]:
        """The values of ``config.py`` by dotted key, as texts. Nothing of it is run."""
        return dict(_flat("", _literals(self.config_text)))

    def asked(self) -> list[list[dict[str, Any]]]:
        """The records of each sample question, in the order of their steps."""
        out: dict[tuple[Any, str], list[dict[str, Any]]] = {}
        for each in self.samples:
            out.setdefault((each.get("system"), each["question"]), []).append(each)
        return [sorted(each, key=lambda record: record["step"]) for each in out.values()]


def read_run(path: str | Path) -> RunFolder:
    """Read a run folder. What is missing in it, or cut off by a kill, is left out.

    Raises:
        ConfigError: it is no run folder.
    """
    folder = Path(path)
    if not any((folder / each).is_file() for each in ("metrics.jsonl", "config.py", ENVIRONMENT)):
        raise ConfigError(f"{folder} is no run folder: expected one with metrics.jsonl or config.py in it")
    return RunFolder(
        path=folder,
        metrics=[each for each in _lines(folder / "metrics.jsonl") if _is_record(each)],
        samples=[each for each in _lines(folder / "generations.jsonl") if _is_answer(each)],
        ledger=_object(folder / "data_report.json"),
        environment=_object(folder / ENVIRONMENT),
        config_text=_read(folder / "config.py"),
        warnings=_warnings(folder / "train.log"),
        model=next(
            (each for each in (folder / "final", folder / "checkpoints" / "last") if each.is_dir()), None
        ),
    )


def _read(path: Path) -> str:
    # A kill may have come in the middle of a character.
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _lines(path: Path) -> Iterator[Any]:
    for line in _read(path).split("\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue  # an empty line, or one that was being written


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read(path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("step"), int)
        and isinstance(value.get("split"), str)
    )


def _is_answer(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("step"), int)
        and isinstance(value.get("question"), str)
        and isinstance(value.get("answer"), str)
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _warnings(path: Path) -> list[str]:
    found = [_WARNING.match(line) for line in _read(path).split("\n")]
    return list(dict.fromkeys(each[1] for each in found if each is not None))


def _literals(source: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                values[node.targets[0].id] = ast.literal_eval(node.value)
            except (ValueError, TypeError, RecursionError):
                values[node.targets[0].id] = ast.unparse(node.value)
    return values


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), each)
    elif path:
        yield path, value if isinstance(value, str) else repr(value)
