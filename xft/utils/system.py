"""Inspect the machine: memory, CPU, launcher environment, library versions."""

import os
import platform
import resource
import subprocess
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
"""Libraries that the results of a run depend on."""
LAUNCHERS = {
    "pytorch": (("RANK", "WORLD_SIZE", "LOCAL_RANK"), "torchrun --nproc_per_node N"),
    "slurm": (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"), "srun"),
    "mpi": (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        "mpirun -n N",
    ),
}
"""For each launcher: its variables for rank, world size and local rank, and its command."""
_CGROUP = Path("/sys/fs/cgroup")


def host_memory() -> tuple[int, int]:
    """Return total and available memory of the host in bytes, within the limit of the container.

    Raises:
        ImportError: psutil is not installed.
    """
    import psutil

    memory = psutil.virtual_memory()
    total, free = int(memory.total), int(memory.available)
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is not None and used is not None and limit < total:
        # The kernel reclaims the page cache before it kills a process.
        used -= _from_table(_CGROUP / "memory.stat", "inactive_file", 1)
        total, free = limit, min(free, max(limit - used, 0))
    return total, free


def rss_bytes() -> int:
    """Return the resident set size of this process in bytes; its peak on systems without ``/proc``."""
    return _from_table(Path("/proc/self/status"), "VmRSS:", 1024) or peak_rss_bytes()


def peak_rss_bytes() -> int:
    """Return the peak resident set size in bytes since the process started or ``reset_peak_rss`` was called."""
    if high := _from_table(Path("/proc/self/status"), "VmHWM:", 1024):
        return high
    # In kilobytes, except on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak_rss() -> bool:
    """Reset ``peak_rss_bytes`` to the current value. Return whether the system supports it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


@contextmanager
def blocked_imports(*names: str) -> Iterator[None]:
    """Make imports of these libraries fail inside the context, unless they are already imported.

    Some libraries import every optional dependency that is installed, which can dominate the start-up time.
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that the results of a run depend on."""
    installed = {name: version for name in LIBRARIES if (version := version_of(name)) is not None}
    return {"python": platform.python_version(), **installed}


def version_of(name: str) -> str | None:
    """Return the version of a distribution without importing it, or ``None`` if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Return the CPU's name and the number of cores that this process may use."""
    model_names = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith(("model name", "Model"))
    ]
    name = model_names[0] if model_names else platform.processor() or platform.machine()
    count = available_cpus()
    return f"{name}, {count} core{'s' if count != 1 else ''}"


def git_commit() -> str | None:
    """Return the commit of the current folder's repository, marked if files are modified; ``None`` outside of one."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=-modified", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def rank_from_env(launcher: str) -> int:
    """Return this process's rank from the environment of its launcher; 0 without a launcher."""
    names, _ = LAUNCHERS.get(launcher, (("",), ""))
    return int(os.environ.get(names[0], "0"))


def available_cpus() -> int:
    """Return the number of CPU cores that this process may use."""
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
