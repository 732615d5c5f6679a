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


def test_no_rank_holds_all_weights_while_they_are_loaded_or_saved(tmp_path: Path) -> None:
    """Half of the weights, and buffers of some single weights; in NF4, an eighth."""
    out, script = tmp_path / "memory.json", ROOT / "benchmarks" / "bench_sharded_memory.py"
    done = run_on_ranks(2, script, "128", str(out), "QLoRA", "full, experts")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["ranks"] == 2
    shares = {(row["case"], row["phase"]): row["peak"] / row["bytes"] for row in result["rows"]}
    limits = {"load": 0.65, "save": 0.85, "final model": 0.45, "resume": 0.65}
    assert shares.pop(("QLoRA", "load")) < 0.45
    assert {phase for _, phase in shares} == limits.keys()
    for (_, phase), share in shares.items():
        assert share < limits[phase], phase
