"""The memory that a run may take, and that of the host between one step and the next."""

import ctypes
import os
import sys

import torch

from xft.utils import system

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of ``malloc.h``."""


def keep_freed_memory() -> bool:
    """Let glibc keep what a step frees for the step that follows.

    As it comes, it gives the activations of a step back to the kernel, which fills every page with
    zeros when the next step asks for it. Nothing is changed where the environment has ``MALLOC_``
    settings of its own, or where the C library is another.

    Returns:
        Whether it was told so.
    """
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
    if sys.platform != "linux" or any(each in os.environ for each in names):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    # 32 MiB is the most that glibc takes as the size from which on a tensor is mapped by itself.
    return bool(mallopt(M_MMAP_THRESHOLD, 32 << 20) and mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1))


def available(device: torch.device) -> int:
    """Bytes that may still be taken: of a GPU's memory, or of the host's."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    return system.host_memory()[1]
