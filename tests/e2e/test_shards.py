"""What ranks hold is what docs/scaling.md says that they hold."""

import json
from pathlib import Path

import pytest
from helpers.forked import run_on_ranks
from helpers.tiny import ROOT


def test_shards_are_as_large_as_predicted(tmp_path: Path) -> None:
    """On 3 ranks, which share nothing evenly and tell a third from a half."""
    pytest.importorskip("deepspeed")
    ranks = 3
    out = tmp_path / "shards.json"
    done = run_on_ranks(ranks, ROOT / "benchmarks" / "bench_sharded_checkpoint.py", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert len(rows) == 3 * 3 * 3
    for row in rows:
        assert row["ranks"] == ranks
        assert row["measured"] == pytest.approx(row["predicted"], rel=0.15), row


def test_ranks_that_share_a_sequence_out_need_less_each(tmp_path: Path) -> None:
    rows = []
    for ranks in (1, 2):
        out = tmp_path / f"{ranks}.json"
        done = run_on_ranks(ranks, ROOT / "benchmarks" / "bench_sequence_parallel.py", "512", str(out))
        assert done.returncode == 0, done.stderr[-3000:]
        rows.append(json.loads(out.read_text(encoding="utf-8")))
    alone, shared = rows
    assert (alone["ranks"], shared["ranks"]) == (1, 2)
    assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-3)  # bf16
    assert shared["kept"] == pytest.approx(alone["kept"] / 2, rel=0.05)


def test_no_rank_holds_a_copy_of_all_weights_while_they_are_saved(tmp_path: Path) -> None:
    """Half of the weights, and buffers of some single weights."""
    out = tmp_path / "saving.json"
    done = run_on_ranks(2, ROOT / "benchmarks" / "bench_sharded_saving.py", "192", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    row = json.loads(out.read_text(encoding="utf-8"))
    assert row["ranks"] == 2
    for peaks in row["peaks"].values():
        assert max(peaks) < 0.9 * row["bytes"]
