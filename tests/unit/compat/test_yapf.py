"""What other libraries leave on the machine, and how xft lives with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kept", [0, 600])
def test_half_a_file_in_the_cache_of_yapf_ends_no_command(tmp_path: Path, kept: int) -> None:
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import yapf"], env=env, check=True)
    grammars = {each: each.read_bytes() for each in tmp_path.rglob("*.pickle")}
    assert len(grammars) == 2
    for path, whole in grammars.items():
        path.write_bytes(whole[:kept])
    importing = [sys.executable, "-c", "import mmengine"]
    plain = subprocess.run(importing, env=env, capture_output=True, check=False)
    assert plain.returncode == 1, "yapf mends its cache by itself: import_yapf is needed no more"
    subprocess.run([sys.executable, "-c", "import xft.registry"], env=env, check=True)
    subprocess.run(importing, env=env, check=True)
