"""Tune the host's memory allocator, and measure available memory."""

import ctypes
import os
import sys
from contextlib import suppress

import torch

from xft.utils import system

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, as in ``malloc.h``."""


def tune_glibc_malloc() -> bool:
    """Make glibc keep the memory that a training step frees for the next step.

    By default, glibc returns freed activations to the kernel, which fills every page with zeros when the next step
    allocates it. Nothing changes with another C library, or if the environment already configures malloc.

    Returns:
        Whether the settings were changed.
    """
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
    if sys.platform != "linux" or any(name in os.environ for name in names):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    # 32 MiB is glibc's maximum for the size at which allocations are mapped separately.
    return bool(mallopt(M_MMAP_THRESHOLD, 32 << 20) and mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1))


def release_freed_memory() -> None:
    """Return the memory that was freed between other allocations to the system; nothing with another C library.

    Weights that are kept lie between the buffers that computed them, and glibc returns its upper end only.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def available_bytes(device: torch.device) -> int:
    """Return the bytes that this process can still allocate, on a GPU or on the host."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    return system.host_memory()[1]
