"""Read the files of a run folder: a finished run, a running one, or one that was killed."""

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xft.data.sources.shipped_files import resolve_file
from xft.errors import ConfigError, DataError
from xft.reporting.rollout_samples import is_rollout
from xft.utils.generation_records import group_by_prompt

ENVIRONMENT = "environment.json"
"""Plan, machine and library versions of a run."""
_TIME = r"^\d{4}-\d\d-\d\d [\d:,]+ "
_WARNING = re.compile(rf"{_TIME}(?:warning: |(?P<label>warning   ))(?P<text>.*)$")
_NEXT_LINE = re.compile(rf"{_TIME} {{10}}(?P<text>\S.*)$")
"""The next line of a text that is wrapped after a label."""


@dataclass
class RunFolder:
    """Contents of a run folder.

    Attributes:
        path: of the folder.
        metrics: records of ``metrics.jsonl``.
        generations: records of ``generations.jsonl``.
        rollouts: records of ``rollouts.jsonl``.
        data_report: ``data_report.json``.
        environment: ``environment.json``.
        config_text: ``config.py``.
        warnings: distinct warnings of ``train.log``, in order.
        model: folder of the model: ``final``, or the last checkpoint.
    """

    path: Path
    metrics: list[dict[str, Any]] = field(default_factory=list)
    generations: list[dict[str, Any]] = field(default_factory=list)
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    data_report: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    warnings: list[str] = field(default_factory=list)
    model: Path | None = None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def finished(self) -> bool:
        """Whether the run reached its end."""
        return self.model is not None and self.model.name == "final"

    @property
    def last_step(self) -> int:
        """Last recorded step."""
        return max((record["step"] for record in self.metrics), default=0)

    @property
    def num_steps(self) -> int | None:
        """Planned number of steps, if recorded."""
        plan = self.environment.get("plan")
        steps = plan.get("steps") if isinstance(plan, dict) else None
        return steps if isinstance(steps, int) else None

    def metric_names(self, split: str) -> list[str]:
        """Return the names of the metrics of a split, in order of appearance."""
        names: dict[str, None] = {}
        for record in self.metrics:
            if record["split"] == split:
                names.update(dict.fromkeys(key for key in record if key not in ("step", "split")))
        return list(names)

    def points(self, split: str, name: str) -> list[tuple[float, float | None]]:
        """Return a metric of a split by step; ``None`` for values that are not finite numbers."""
        return [
            (record["step"], _number(record[name]))
            for record in self.metrics
            if record["split"] == split and name in record
        ]

    def config(self) -> dict[str, str]:
        """Return the values of ``config.py`` by dotted key as text, without executing it."""
        return dict(_flatten("", _literals(self.config_text)))

    @property
    def image_folder(self) -> Path:
        """Folder of relative paths of images of the sample questions: that of their file, or the current one."""
        source = _literals(self.config_text).get("eval_prompts")
        try:
            return resolve_file(source).parent if isinstance(source, str) else Path()
        except (
            ConfigError,
            DataError,
        ):  # questions of another version of xft, or of a package that is missing
            return Path()

    def prompts(self) -> list[list[dict[str, Any]]]:
        """Return the records of each sample question, sorted by step."""
        return list(group_by_prompt(self.generations).values())


def read_run(path: str | Path) -> RunFolder:
    """Read a run folder. Missing files and truncated records are skipped.

    Raises:
        ConfigError: the path is not a run folder.
    """
    folder = Path(path)
    if not any((folder / name).is_file() for name in ("metrics.jsonl", "config.py", ENVIRONMENT)):
        raise ConfigError(
            key="RUN", got=str(folder), expected="a run folder with metrics.jsonl or config.py"
        )
    models = (folder / "final", folder / "checkpoints" / "last")
    return RunFolder(
        path=folder,
        metrics=[record for record in _json_lines(folder / "metrics.jsonl") if _is_metrics(record)],
        generations=[
            record for record in _json_lines(folder / "generations.jsonl") if _is_generation(record)
        ],
        rollouts=[record for record in _json_lines(folder / "rollouts.jsonl") if is_rollout(record)],
        data_report=_json_object(folder / "data_report.json"),
        environment=_json_object(folder / ENVIRONMENT),
        config_text=_read(folder / "config.py"),
        warnings=_warnings(folder / "train.log"),
        model=next((model for model in models if model.is_dir()), None),
    )


def is_run_folder(folder: Path) -> bool:
    """Return whether a folder has the records of a run."""
    return (folder / ENVIRONMENT).is_file() and (folder / "config.py").is_file()


def _read(path: Path) -> str:
    # A killed run may end within a multi-byte character.
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _json_lines(path: Path) -> Iterator[Any]:
    for line in _read(path).split("\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue  # an empty or truncated line


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(path) or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_metrics(record: object) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("step"), int)
        and isinstance(record.get("split"), str)
    )


def _is_generation(record: object) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("step"), int)
        and isinstance(record.get("question"), str)
        and isinstance(record.get("answer"), str)
        and isinstance(record.get("system"), str | None)
        and isinstance(images := record.get("images", []), list)
        and all(isinstance(path, str) for path in images)
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


def _warnings(path: Path) -> list[str]:
    texts: list[str] = []
    is_wrapped = False
    for line in _read(path).split("\n"):
        if is_wrapped and (match := _NEXT_LINE.match(line)):
            texts[-1] += f" {match['text']}"
        elif match := _WARNING.match(line):
            texts.append(match["text"])
            is_wrapped = match["label"] is not None
        else:
            is_wrapped = False
    return list(dict.fromkeys(texts))


def _literals(source: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = _literal(node.value)
    return values


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal or of a call of ``dict``; the text of any other expression."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        names = [keyword.arg for keyword in node.keywords]
        if not node.args and None not in names:
            return {
                name: _literal(keyword.value) for name, keyword in zip(names, node.keywords, strict=True)
            }
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):
        return ast.unparse(node)


def _flatten(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flatten(f"{path}.{key}" if path else str(key), item)
    elif path:
        yield path, value if isinstance(value, str) else repr(value)
