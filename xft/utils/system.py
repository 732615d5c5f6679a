"""The machine below a run: its memory, and what is installed on it."""

import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "mmengine",
    "datasets",
    "accelerate",
    "deepspeed",
)
"""What the numbers of a run depend on."""
LAUNCHERS = {
    "pytorch": (("RANK", "WORLD_SIZE", "LOCAL_RANK"), "torchrun --nproc_per_node N"),
    "slurm": (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"), "srun"),
    "mpi": (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        "mpirun -n N",
    ),
}
"""What each launcher calls rank, number of ranks and rank on its machine; and how it is typed."""
_CGROUP = Path("/sys/fs/cgroup")


def host_memory() -> tuple[int, int]:
    """Memory of the host in bytes: all of it, and what may still be taken. The limit of a container counts.

    Raises:
        ImportError: psutil is not installed.
    """
    import psutil

    memory = psutil.virtual_memory()
    total, free = int(memory.total), int(memory.available)
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is not None and used is not None and limit < total:
        # Pages of files are given back before a process is killed.
        used -= _from_table(_CGROUP / "memory.stat", "inactive_file", 1)
        total, free = limit, min(free, max(limit - used, 0))
    return total, free


def resident() -> int:
    """Bytes of memory that this process holds now; the most that it has held where that is not known."""
    return _from_table(Path("/proc/self/status"), "VmRSS:", 1024) or peak_resident()


def peak_resident() -> int:
    """The most bytes of memory that this process has held since it began, or since ``forget_peak``."""
    if high := _from_table(Path("/proc/self/status"), "VmHWM:", 1024):
        return high
    # Kilobytes, but for macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> bool:
    """Let ``peak_resident`` begin anew from what is held now; whether the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Let libraries seem not to be installed under ``with``, unless they have been imported already.

    Some libraries import others wherever they are installed, whether they will be used or not, which may take
    longer than everything else.
    """
    absent = [each for each in names if each not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for each in absent:
            del sys.modules[each]


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that the numbers of a run depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        if (version := version_of(name)) is not None:
            found[name] = version
    return found


def version_of(name: str) -> str | None:
    """The version of a distribution, without importing it; ``None`` where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The name of the processor, and how many cores this process may use."""
    named = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith(("model name", "Model"))
    ]
    name = named[0] if named else platform.processor() or platform.machine()
    count = cores()
    return f"{name}, {count} core{'s' if count != 1 else ''}"


def rank_by(launcher: str) -> int:
    """The rank of this process, as the environment of its launcher says; 0 where it says none."""
    names, _ = LAUNCHERS.get(launcher, (("",), ""))
    return int(os.environ.get(names[0], "0"))


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux, or not allowed
        return []


def _from_table(path: Path, name: str, unit: int) -> int:
    for line in _lines(path):
        key, *values = line.split()
        if key == name and values:
            return int(values[0]) * unit
    return 0


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None
