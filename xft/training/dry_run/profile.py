"""Measures the memory and the time of the parts of a run, and says which part a full memory ended."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from xft.errors import TrainingError
from xft.utils import system
from xft.utils.memory import available_bytes

Advice = Callable[[str], list[str]]
"""From the kind of a part to what may be changed so that it needs less, a line each."""


@dataclass(frozen=True)
class Part:
    """What one part took.

    Attributes:
        kind: ``model``, ``start``, ``forward``, ``backward``, ``optimizer``, ``validation``,
            ``generation`` or ``checkpoint``.
        text: what it was, for a person.
        seconds: how long it took.
        peak: the most bytes that were held while it went on: of the GPU, or of this process.
    """

    kind: str
    text: str
    seconds: float
    peak: int


class Meter:
    """Measures parts.

    On a GPU, the memory is what torch has handed out; on a CPU, what the process holds, libraries
    included.

    Args:
        device: where the model will be.
        advise: what to change where a part does not fit.
        heard: called with each part when it is through.
    """

    def __init__(
        self, device: torch.device, advise: Advice, heard: Callable[[Part], None] = lambda _: None
    ) -> None:
        self.device = device
        self.parts: list[Part] = []
        self._advise = advise
        self._heard = heard
        self._kind, self._begun = "", 0.0

    @property
    def on_gpu(self) -> bool:
        """Whether the memory is a GPU's."""
        return self.device.type == "cuda"

    @property
    def peak(self) -> Part:
        """The part that took the most memory."""
        return max(self.parts, key=lambda each: each.peak)

    def seconds(self, kind: str) -> float:
        """How long the last part of a kind took; 0 where there was none."""
        return next((each.seconds for each in reversed(self.parts) if each.kind == kind), 0.0)

    @contextmanager
    def part(self, kind: str, text: str) -> Iterator[None]:
        """Measure what stands under ``with``.

        Raises:
            TrainingError: the memory was full.
        """
        self._begin(kind)
        try:
            yield
            self.end(text)
        except Exception as error:
            if not is_full(error):
                raise
            # The error of the allocator holds the frames, and they hold the tensors.
            raise TrainingError(self._complaint(text)) from None

    def end(self, text: str, then: str = "") -> None:
        """End the part that is under way.

        Args:
            text: what it was.
            then: the kind of the part that begins at once, if one does.
        """
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - self._begun
        if self._kind:
            self.parts.append(Part(self._kind, text, seconds, self._held()))
            self._heard(self.parts[-1])
        self._begin(then)

    def available(self) -> int:
        """Bytes that may still be taken."""
        return available_bytes(self.device)

    def held(self) -> int:
        """Bytes that are held now."""
        return torch.cuda.memory_allocated(self.device) if self.on_gpu else system.rss_bytes()

    def _begin(self, kind: str) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            system.reset_peak_rss()
        self._kind, self._begun = kind, time.perf_counter()

    def _held(self) -> int:
        return torch.cuda.max_memory_allocated(self.device) if self.on_gpu else system.peak_rss_bytes()

    def _complaint(self, text: str) -> str:
        where = torch.cuda.get_device_name(self.device) if self.on_gpu else "memory of this machine"
        ways = self._advise(self._kind)
        change = "".join(f"\n  {each}" for each in ways)
        return f"the {where} is full in the part {self._kind!r} ({text}); what may be changed:{change}"


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that there is no memory left."""
    while error is not None:
        text = str(error)
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        if isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "out of memory" in text):
            return True
        error = error.__cause__ or error.__context__
    return False


def size_of(tensors: Iterator[Any]) -> int:
    """Bytes of tensors, each counted once."""
    return sum({each.data_ptr(): each.nbytes for each in tensors}.values())
