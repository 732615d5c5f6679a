"""The real SwanLab, offline."""

import json
from pathlib import Path

import pytest
from helpers.log_file import log_records

from xft.loggers import SwanLab

pytest.importorskip(
    "swanlab",
    reason="swanlab is not installed: pip install -r requirements/swanlab.txt (takes protobuf below 7)",
)


def test_it_gets_the_curves_the_config_and_the_samples_as_a_table(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record

    (tmp_path / "data_report.json").write_text('{"rows_read": 24}')
    logger = SwanLab(tmp_path, {"seed": 5, "data": {"max_length": 128}}, name="mine", mode="offline")
    for step in (1, 2):
        logger.record({"step": step, "split": "train", "loss": 1 / step, "note": "no figure"})
    row = {"question": "Why?", "answer": "1.0 | so", "reference": None, "score": 0.5, "stopped": True}
    logger.generations(2, [row])
    logger.close()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")

    [folder] = (tmp_path / "swanlab").glob("run-*")
    [file] = folder.glob("*.swanlab")
    found = [Record.FromString(each) for each in log_records(file)]
    scalars = [each.scalar for each in found if each.WhichOneof("record_type") == "scalar"]
    assert [(each.key, each.step, each.value.number) for each in scalars] == [
        ("train/loss", 1, 1.0),
        ("train/loss", 2, 0.5),
    ]
    config = (folder / "files" / "config.yaml").read_text()
    assert all(each in config for each in ("max_length: 128", "seed", "rows_read: 24"))
    [media] = (folder / "media" / "echarts").iterdir()
    table = json.loads(media.read_text())
    assert [each["field"] for each in table["colDefs"]] == ["step", *row]
    assert table["rowData"] == [{"step": 2, **row}]


def test_a_resumed_run_keeps_its_name_for_the_server(tmp_path: Path) -> None:
    first = SwanLab(tmp_path, {}, mode="offline")
    first.close()
    second = SwanLab(tmp_path, {}, resume_step=1, mode="offline")
    second.close()
    third = SwanLab(tmp_path, {}, mode="offline")
    third.close()
    assert first._run.id == second._run.id != third._run.id
