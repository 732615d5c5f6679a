"""Loggers: where figures go beside the terminal."""

import errno
import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft import console
from xft.engine.manifest import flush
from xft.errors import ConfigError
from xft.registry import register


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


@register("loggers", "jsonl")
class JsonLines(Logger):
    """``metrics.jsonl`` and ``samples.jsonl`` in the run folder, a JSON object a line; a figure that is
    not finite is ``null``.

    Args:
        work_dir: the run folder.
        config: the config of the run.
        resume_step: records after this step are cut off: the run will write them again.
    """

    def __init__(self, work_dir: Path, config: Mapping[str, Any], resume_step: int = 0) -> None:
        self._files = {}
        for name in ("metrics", "samples"):
            path = work_dir / f"{name}.jsonl"
            _cut_off(path, resume_step)
            self._files[name] = _Lines(path)

    def record(self, values: Mapping[str, Any]) -> None:
        """Append to ``metrics.jsonl``."""
        self._write("metrics", values)

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append to ``samples.jsonl``."""
        for row in rows:
            self._write("samples", {"step": step, **row})

    def position(self) -> dict[str, int]:
        """The length of each file in bytes."""
        return {name: each.length for name, each in self._files.items()}

    def rewind(self, position: dict[str, int]) -> None:
        """Cut the files to these lengths: beyond ``resume_step``, this takes away what hooks wrote
        at that step after the checkpoint."""
        for name, length in position.items():
            self._files[name].cut(length)

    def flush(self) -> None:
        """Put both files on the disk."""
        for each in self._files.values():
            each.flush()

    def close(self) -> None:
        """Close both files."""
        for each in self._files.values():
            each.close()

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        # A number that is none (the gradient of a step that was left out) has no place in JSON.
        strict = {key: value if _is_json(value) else None for key, value in values.items()}
        self._files[name].append(json.dumps(strict, ensure_ascii=False, allow_nan=False) + "\n")


class _Lines:
    """A file that lines are appended to. Where the disk does not take them, they wait in memory, so
    that a full disk makes no gap and does not end the training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._waiting = b""
        self._lock = threading.Lock()

    @property
    def length(self) -> int:
        """Bytes, with what waits."""
        return self._file.tell() + len(self._waiting)

    def append(self, line: str) -> None:
        with self._lock:
            waited = bool(self._waiting)
            self._waiting += line.encode()
            try:
                while self._waiting:
                    self._waiting = self._waiting[self._file.write(self._waiting) :]
            except OSError as error:
                if not waited:
                    console.say(
                        f"warning: {self.path.name} cannot be written ({error.strerror}); its lines wait"
                    )

    def cut(self, length: int) -> None:
        """Keep the first ``length`` bytes. They end with a line unless another hand was at the file."""
        content = self.path.read_bytes()
        if len(content) < length or content[:length][-1:] not in (b"", b"\n"):
            console.say(f"warning: {self.path.name} is not what it was at the checkpoint; it may have gaps")
            return
        self._file.truncate(length)
        self._file.seek(length)

    def flush(self) -> None:
        with self._lock:
            if self._waiting:
                raise OSError(errno.ENOSPC, f"lines of {self.path.name} are not written yet")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if not self._file.closed and self._waiting:
            lost = self._waiting.count(b"\n")
            console.say(f"warning: the last {lost} lines of {self.path.name} could not be written")
        self._file.close()


def _cut_off(path: Path, resume_step: int) -> None:
    """Keep only whole records up to a step. Step 0 keeps nothing: the run begins anew."""
    if not path.is_file():
        return
    kept = []
    # A kill may have come in the middle of a character.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if not line:
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError:  # the run was killed in the middle of this line
            break
        if resume_step and values["step"] <= resume_step:
            kept.append(line + "\n")
    temporary = path.with_suffix(".new")
    temporary.write_text("".join(kept), encoding="utf-8")
    flush(temporary)
    os.replace(temporary, path)


@register("loggers", "tensorboard")
class TensorBoard(Logger):
    """TensorBoard event files in ``tensorboard/`` of the run folder."""

    def __init__(self, work_dir: Path, config: Mapping[str, Any], resume_step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("loggers: tensorboard is not installed: pip install tensorboard") from error
        self._writer = SummaryWriter(
            str(work_dir / "tensorboard"), purge_step=resume_step + 1 if resume_step else None
        )
        self._writer.add_text("config", f"```python\n{_as_text(config)}\n```")

    def record(self, values: Mapping[str, Any]) -> None:
        """A scalar for each figure, under ``split/name``."""
        for name, value in _figures(values).items():
            self._writer.add_scalar(f"{values['split']}/{name}", value, values["step"])

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A Markdown table."""
        lines = ["| question | answer | reference | score |", "|---|---|---|---|"]
        for row in rows:
            cells = [_cell(row[key]) for key in ("question", "answer", "reference", "score")]
            lines.append("| " + " | ".join(cells) + " |")
        self._writer.add_text("samples", "\n".join(lines), step)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


@register("loggers", "wandb")
class WandB(Logger):
    """Weights & Biases: curves, config, and the sample questions as a table.

    Args:
        work_dir: the run folder.
        config: the config of the run.
        resume_step: continue the run from this step.
        project: as W&B has it.
        name: of the run; that of the run folder where nothing is said.
        mode: ``online``, ``offline`` (upload later with ``wandb sync``) or ``disabled``.
    """

    def __init__(
        self,
        work_dir: Path,
        config: Mapping[str, Any],
        resume_step: int = 0,
        project: str = "xft",
        name: str | None = None,
        entity: str | None = None,
        mode: str | None = None,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("loggers: wandb is not installed: pip install wandb") from error
        self._wandb = wandb
        remembered = work_dir / "wandb_run_id"
        known = remembered.read_text().strip() if resume_step and remembered.is_file() else None
        try:
            self._run = wandb.init(
                project=project,
                entity=entity,
                name=name or work_dir.name,
                config=dict(config),
                dir=str(work_dir),
                mode=mode,  # type: ignore[arg-type]
                id=known,
                resume="allow" if known else None,
            )
        except Exception as error:
            raise ConfigError(
                f"loggers.wandb: cannot start ({error}); `wandb login`, or loggers.wandb.mode='offline'"
            ) from error
        remembered.write_text(self._run.id)

    def record(self, values: Mapping[str, Any]) -> None:
        """A scalar for each figure, under ``split/name``."""
        split = values["split"]
        figures = {f"{split}/{name}": value for name, value in _figures(values).items()}
        self._run.log({**figures, "step": values["step"]})

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table with a row for each question."""
        columns = ["step", "question", "answer", "reference", "score", "stopped"]
        table = self._wandb.Table(columns=columns)
        for row in rows:
            table.add_data(step, *(row[key] for key in columns[1:]))
        self._run.log({"samples": table, "step": step})

    def close(self) -> None:
        """End the run."""
        self._run.finish()


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _figures(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in values.items()
        if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", "<br>")


def _as_text(config: Mapping[str, Any]) -> str:
    from xft.config import dump_config

    return dump_config(dict(config))
