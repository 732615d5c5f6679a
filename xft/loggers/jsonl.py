"""Records as lines of JSON in the run folder, which reports and commands read."""

import errno
import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.loggers.base import Logger
from xft.registry import register
from xft.types.ranges import CountOrZero
from xft.utils import console
from xft.utils.paths import fsync_path, no_follow, write_text


@register("loggers", "jsonl")
class JsonLines(Logger):
    """Write ``metrics.jsonl``, ``generations.jsonl`` and ``rollouts.jsonl`` in the run folder, an object per line.

    A value that is not finite becomes ``null``.

    Args:
        work_dir: the run folder.
        config: the config of the run.
        resume_step: records after this step are removed; the run writes them again.
    """

    def __init__(self, work_dir: Path, config: Mapping[str, Any], resume_step: CountOrZero = 0) -> None:
        self._files = {}
        for name in ("metrics", "generations", "rollouts"):
            path = work_dir / f"{name}.jsonl"
            _truncate_records(path, resume_step)
            self._files[name] = _Lines(path)

    def record(self, values: Mapping[str, Any]) -> None:
        """Append to ``metrics.jsonl``."""
        self._write("metrics", values)

    def generations(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append to ``generations.jsonl``."""
        for row in rows:
            self._write("generations", {"step": step, **row})

    def rollouts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append to ``rollouts.jsonl``."""
        for row in rows:
            self._write("rollouts", {"step": step, **row})

    def checkpoint_position(self) -> dict[str, int]:
        """Return the length of each file in bytes."""
        return {name: file.length for name, file in self._files.items()}

    def truncate_to_step(self, position: dict[str, int]) -> None:
        """Truncate the files to these lengths.

        In addition to ``resume_step``, this removes records that hooks wrote at that step after the checkpoint.
        """
        for name, length in position.items():
            self._files[name].cut(length)

    def flush(self) -> None:
        """Write all files to disk."""
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Close all files. Most runs sample no rollouts, and keep no empty file of them."""
        for file in self._files.values():
            file.close()
        rollouts = self._files["rollouts"].path
        if rollouts.is_file() and rollouts.stat().st_size == 0:
            rollouts.unlink()

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        # Why: JSON has no NaN or infinity, such as the gradient norm of a skipped step.
        strict = _finite(values)
        self._files[name].append(json.dumps(strict, ensure_ascii=False, allow_nan=False) + "\n")


class _Lines:
    """Append lines to a file, and buffer them in memory while the disk is full.

    A full disk thus neither loses lines nor ends the training.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "ab", buffering=0, opener=no_follow)  # noqa: SIM115
        self._waiting = b""
        self._lock = threading.Lock()

    @property
    def length(self) -> int:
        """Length in bytes, including buffered lines."""
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
                    console.info(
                        f"warning: {self.path.name} cannot be written ({error.strerror}); its lines wait"
                    )

    def cut(self, length: int) -> None:
        """Keep the first ``length`` bytes. They end with a newline unless another program changed the file."""
        content = self.path.read_bytes()
        if len(content) < length or content[:length][-1:] not in (b"", b"\n"):
            console.info(
                f"warning: {self.path.name} was modified since the checkpoint; records may be missing"
            )
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
            console.info(f"warning: the last {lost} lines of {self.path.name} could not be written")
        self._file.close()


def _truncate_records(path: Path, resume_step: int) -> None:
    """Keep complete records up to a step. Step 0 keeps none."""
    if not path.is_file():
        return
    kept = []
    # Why: a killed run may have written half a character.
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
    write_text(temporary, "".join(kept))
    fsync_path(temporary)
    os.replace(temporary, path)


def _finite(value: object) -> Any:
    """Return JSON data with ``None`` for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
