"""What a step frees stays with the process: counted in page faults, by a process of its own."""

import subprocess
import sys

import pytest

from xft.utils import memory

SCRIPT = """
import resource, runpy, sys
keep_freed_memory = runpy.run_path(sys.argv[2])["keep_freed_memory"]
if sys.argv[1] == "keep":
    assert keep_freed_memory()
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


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is asked")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    faults = {}
    for how in ("keep", "leave"):
        command = [sys.executable, "-c", SCRIPT, how, str(memory.__file__)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    assert faults["keep"] < 0.1 * faults["leave"]


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_settings_of_the_user_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert not memory.keep_freed_memory()
