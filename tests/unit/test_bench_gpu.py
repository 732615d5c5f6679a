"""The benchmark of `make gpu`, as far as it runs without a GPU."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, which imports its neighbors by their names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_gpu

    return bench_gpu


def test_without_a_gpu_nothing_is_measured(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py"])
    assert bench.main() == 1
    assert "no GPU is available" in capsys.readouterr().err


def test_operations_of_a_model_counted_by_hand(bench: ModuleType, tmp_path: Path) -> None:
    """Per token: a base of n weights takes 4n with a frozen base and 6n in full, an adapter 6 for each of its weights."""
    rows = tmp_path / "rows.json"
    bench.write_rows(rows, 600, 3)
    assert len(json.loads(rows.read_text())) > 5
    config = bench.write_model(tmp_path / "model", "tiny")
    job = {"model": str(tmp_path / "model"), "rows": str(rows), "length": 600, "rank": 4}
    layer = (128 * 128 + 128 * 64) * 2 + 3 * 128 * 256
    adapter = 4 * ((128 + 128) * 2 + (128 + 64) * 2 + 3 * (128 + 256))
    lora, full = (bench.operations(config, {**job, "tuning": tuning}) for tuning in ("lora", "full"))
    assert lora.per_token == 4 * 2 * layer + 6 * 2 * adapter
    assert full.per_token == 6 * 2 * layer
    assert lora.per_target == 4 * 128 * 49152
    assert full.attention == lora.attention > 0


def test_rate_of_a_known_gpu_is_that_of_its_data_sheet(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    assert bench.gpu() == ("NVIDIA H100 80GB HBM3", 989e12)
