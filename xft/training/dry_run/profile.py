"""Measurement of the memory and the time of the phases of a run."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from xft.errors import TrainingError, is_out_of_memory
from xft.utils import system
from xft.utils.memory import available_bytes

Suggest = Callable[[str], list[str]]
"""From a phase to changes of the config that reduce its memory, one line each."""


@dataclass(frozen=True)
class PhaseStats:
    """Resources of one phase.

    Attributes:
        phase: ``model``, ``setup``, ``forward``, ``backward``, ``optimizer``, ``throughput``,
            ``validation``, ``generation``, ``general``, ``checkpoint``, or a name that a hook gives.
        description: what the phase processed, such as ``512 tokens``.
        seconds: duration.
        peak_bytes: peak memory during the phase, of the GPU or of this process.
    """

    phase: str
    description: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class DiskUsage:
    """Disk space of the checkpoints of a run.

    Attributes:
        checkpoint_bytes: size of one checkpoint.
        final_bytes: size of ``final/``.
        free_bytes: free space before the run.
        save_total_limit: number of newest checkpoints that are kept.
        keeps_best: whether the best checkpoint is kept in addition.
    """

    checkpoint_bytes: int
    final_bytes: int
    free_bytes: int
    save_total_limit: int
    keeps_best: bool

    @property
    def kept_bytes(self) -> int:
        """Space that the run occupies when it has finished."""
        return (self.save_total_limit + self.keeps_best) * self.checkpoint_bytes + self.final_bytes


class ResourceProfiler:
    """Measure phases.

    On a GPU, memory is what torch has allocated; on a CPU, the resident memory of the process,
    libraries included.

    Args:
        device: device of the model.
        suggest: returns what to change if a phase runs out of memory.

    Attributes:
        phases: measured phases, in order.
        disk: disk usage of checkpoints; ``None`` if the run saves none, and on ranks other than 0.
    """

    def __init__(self, device: torch.device, suggest: Suggest) -> None:
        self.device = device
        self.phases: list[PhaseStats] = []
        self.disk: DiskUsage | None = None
        self._suggest = suggest
        self._phase, self._started = "", 0.0

    @property
    def on_gpu(self) -> bool:
        """Whether memory is that of a GPU."""
        return self.device.type == "cuda"

    @property
    def peak(self) -> PhaseStats:
        """The phase with the highest peak memory."""
        return max(self.phases, key=lambda stats: stats.peak_bytes)

    def seconds(self, phase: str) -> float:
        """Return the duration of the last phase of that name; 0 if there was none."""
        return next((stats.seconds for stats in reversed(self.phases) if stats.phase == phase), 0.0)

    @contextmanager
    def phase(self, name: str, description: str) -> Iterator[None]:
        """Measure the body of a ``with`` statement.

        Raises:
            TrainingError: out of memory.
        """
        self._begin(name)
        try:
            yield
            self.end_phase(description)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # The error of the allocator references the frames, and they reference the tensors.
            raise self._oom_error(description) from None

    def end_phase(self, description: str, next_phase: str = "") -> None:
        """End the current phase.

        Args:
            description: what the phase processed.
            next_phase: name of the phase that starts immediately, if there is one.
        """
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - self._started
        if self._phase:
            self.phases.append(PhaseStats(self._phase, description, seconds, self._peak_bytes()))
        self._begin(next_phase)

    def available_bytes(self) -> int:
        """Return the memory that can still be allocated."""
        return available_bytes(self.device)

    def allocated_bytes(self) -> int:
        """Return the memory that is allocated now."""
        return torch.cuda.memory_allocated(self.device) if self.on_gpu else system.rss_bytes()

    def _begin(self, name: str) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            system.reset_peak_rss()
        self._phase, self._started = name, time.perf_counter()

    def _peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated(self.device) if self.on_gpu else system.peak_rss_bytes()

    def _oom_error(self, description: str) -> TrainingError:
        where = torch.cuda.get_device_name(self.device) if self.on_gpu else "memory of this machine"
        lines = [f"out of memory in phase {self._phase!r} ({description}; {where}); suggestions:"]
        lines += self._suggest(self._phase)
        return TrainingError("\n  ".join(lines), key=self._phase, got=description)


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the size of tensors; tensors that share memory count once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
