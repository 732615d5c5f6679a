"""Memory settings, measured by the page faults of a subprocess."""

import subprocess
import sys

import pytest

from xft.utils import memory

SCRIPT = """
import resource, runpy, sys
tune_glibc_malloc = runpy.run_path(sys.argv[2])["tune_glibc_malloc"]
if sys.argv[1] == "keep":
    assert tune_glibc_malloc()
import numpy as np
def step():
    blocks = [np.ones(2**21) for _ in range(8)]   # 16 MiB each
    blocks.reverse()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_tune_glibc_malloc_keeps_freed_memory_for_the_next_step() -> None:
    faults = {}
    for how in ("keep", "leave"):
        command = [sys.executable, "-c", SCRIPT, how, str(memory.__file__)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    assert faults["keep"] < 0.1 * faults["leave"]


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_tune_glibc_malloc_respects_user_settings(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert not memory.tune_glibc_malloc()


HOLES = """
import ctypes, os, runpy, sys
release = runpy.run_path(sys.argv[1])["release_freed_memory"]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
before = resident()
blocks = [libc.malloc(2**16) for _ in range(1024)]
for block in blocks:
    ctypes.memset(block, 1, 2**16)
for block in blocks[::2] + blocks[1:-1:2]:
    libc.free(block)
freed = resident() - before
release()
print(freed, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_release_freed_memory_returns_what_is_below_a_block_in_use() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLES, str(memory.__file__)], capture_output=True, text=True, check=True
    )
    freed, released = map(int, done.stdout.split())
    assert freed > 2**25
    assert released < freed / 4
