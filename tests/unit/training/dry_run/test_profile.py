"""Resource profiler: peak memory and time of phases, and out-of-memory errors."""

import pytest
import torch

from xft.errors import ModelError, TrainingError
from xft.training.dry_run import profile as module
from xft.training.dry_run.profile import ResourceProfiler, total_bytes

CPU = torch.device("cpu")


class Memory:
    """Resident memory of a process whose peak can be reset, in bytes."""

    def __init__(self) -> None:
        self.now = self.high = 100

    def use(self, size: int) -> None:
        self.now += size
        self.high = max(self.high, self.now)

    def reset(self) -> bool:
        self.high = self.now
        return True


def test_peak_is_measured_per_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    monkeypatch.setattr(module.system, "peak_rss_bytes", lambda: memory.high)
    monkeypatch.setattr(module.system, "reset_peak_rss", memory.reset)
    profiler = ResourceProfiler(CPU, lambda phase: [])
    with profiler.phase("forward", "small"):
        memory.use(10)
        profiler.end_phase("small", next_phase="backward")
        memory.use(300)
        memory.use(-305)
    with profiler.phase("optimizer", "small again"):
        memory.use(1)
    assert [(stats.phase, stats.peak_bytes) for stats in profiler.phases] == [
        ("forward", 110),
        ("backward", 410),
        ("optimizer", 106),
    ]
    assert profiler.peak.phase == "backward"


@pytest.mark.parametrize("phase", ["forward", "backward", "model"])
def test_out_of_memory_names_phase_and_suggestions(phase: str) -> None:
    profiler = ResourceProfiler(CPU, lambda name: [f"change {name}"])
    with pytest.raises(TrainingError) as error:
        exhaust_memory(profiler, phase)
    assert (error.value.key, error.value.got) == (phase, "64 rows")
    assert str(error.value).splitlines()[1:] == [f"  change {phase}"]


def exhaust_memory(profiler: ResourceProfiler, phase: str) -> None:
    with profiler.phase("model" if phase == "model" else "forward", "64 rows"):
        if phase == "forward":
            torch.empty(10**15)  # the error of the allocator itself
        elif phase == "backward":
            profiler.end_phase("64 rows", next_phase="backward")
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        else:
            fail_to_load()


def fail_to_load() -> None:
    try:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    except RuntimeError as error:
        raise ModelError("cannot load 'big'") from error


@pytest.mark.parametrize("error", [ModelError("no folder"), RuntimeError("shapes differ"), ValueError("x")])
def test_other_errors_are_not_changed(error: Exception) -> None:
    with pytest.raises(type(error)), ResourceProfiler(CPU, lambda phase: []).phase("model", ""):
        raise error


def test_total_bytes_counts_shared_memory_once() -> None:
    weight = torch.zeros(100)
    assert total_bytes(iter([weight, weight.view(10, 10), torch.zeros(50)])) == 600


def test_peak_without_reset_is_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.system, "reset_peak_rss", lambda: False)
    profiler = ResourceProfiler(CPU, lambda phase: [])
    for phase in ("forward", "backward"):
        with profiler.phase(phase, ""):
            torch.ones(1000)
    assert profiler.phases[1].peak_bytes >= profiler.phases[0].peak_bytes > 0
