"""What ranks hold is what docs/scaling.md says that they hold."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT


@pytest.mark.parametrize("ranks", [2, 4])
def test_shards_are_as_large_as_predicted(ranks: int, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    out = tmp_path / "shards.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    done = subprocess.run(
        [*command, str(ROOT / "tools" / "measure_shards.py"), str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert len(rows) == 3 * 3 * 3
    for row in rows:
        assert row["ranks"] == ranks
        assert row["measured"] == pytest.approx(row["predicted"], rel=0.15), row
