"""Summary of prepared data against counts by hand."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xft.data import DataReport, InstructionData, PreparedData, SampleView
from xft.reporting import data_summary
from xft.reporting.data_summary import (
    AUTO_PACKING,
    Packing,
    QuarantinedRow,
    summarize_data,
    summarize_report,
)
from xft.reporting.summary_format import format_summary
from xft.run_config.config import RunConfig, TrainingConfig
from xft.templates import SOURCES, ChatTemplate

NOTHING = SampleView([])


@pytest.fixture
def counted(tmp_path: Path, byte_tokenizer: Any) -> tuple[PreparedData, InstructionData]:
    """Six rows of known length in tokens: 2 of 25, 2 of 35 and 2 of 45.

    ``<|im_start|>user\\nq<|im_end|>\\n<|im_start|>assistant\\n`` is 1+5+1 +1+1 +1+10 = 20 tokens,
    the answer and its end-of-turn token are targets, and a line break follows.
    """
    rows = [{"instruction": "q", "output": letter * n} for n in (3, 13, 23) for letter in "ab"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = InstructionData(str(path), max_length=64, val_split=0, cache_dir=str(tmp_path / "cache"))
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    return data.prepare(byte_tokenizer, template), data


def lines_of(prepared: PreparedData, config: RunConfig | None = None) -> list[str]:
    return format_summary(summarize_data(prepared, config))


def test_format_summary_of_splits_matches_a_count_by_hand(
    counted: tuple[PreparedData, InstructionData],
) -> None:
    lines = lines_of(counted[0])
    assert lines[lines.index("") :] == [
        "",
        "train 6 samples, 210 tokens, 84 targets (40%)",
        "      tokens per sample   p50      35   p95      45   max      45",
        "      targets per sample  p50      14   p95      24   max      24",
        "        24 – 26  ████████████████████████████████████████ 2",
        "        27 – 29  0",
        "        30 – 32  0",
        "        33 – 35  ████████████████████████████████████████ 2",
        "        36 – 38  0",
        "        39 – 41  0",
        "        42 – 44  0",
        "        45 – 47  ████████████████████████████████████████ 2",
        "",
        "val   0 samples, 0 tokens, 0 targets (0%)",
    ]


def recipe(data: InstructionData, min_steps: int) -> Any:
    return SimpleNamespace(data=data, training=TrainingConfig(min_steps_per_epoch=min_steps), seed=0)


def test_packing_matches_a_count_by_hand(counted: tuple[PreparedData, InstructionData]) -> None:
    prepared, data = counted
    # Of 64 tokens, each sample of 45 fills a row alone; 35 + 25 share a row, twice.
    summary = summarize_data(prepared, recipe(data, min_steps=0))
    assert summary.packing == Packing(rows=4, capacity=64, fill=round(210 / (4 * 64), 4))
    packed = "packed into 4 rows of 64 tokens, 82.0% filled"
    assert format_summary(summary)[-2:] == [packed, f"note: {AUTO_PACKING}"]
    data.packing = True
    assert format_summary(summarize_data(prepared, recipe(data, min_steps=0)))[-1] == packed


def test_packing_is_that_of_training_with_min_steps(counted: tuple[PreparedData, InstructionData]) -> None:
    prepared, data = counted
    data.packing = True
    # With at least five steps, training shortens rows until no two samples fit into one.
    lines = lines_of(prepared, recipe(data, min_steps=5))
    assert lines[-2] == "packed into 6 rows of 45 tokens, 77.8% filled"
    assert lines[-1].startswith("note: few rows: packed length 64 → 45")


def test_summary_without_packing_has_no_packing(counted: tuple[PreparedData, InstructionData]) -> None:
    prepared, data = counted
    data.packing = False
    assert summarize_data(prepared, recipe(data, min_steps=0)).packing is None
    assert lines_of(prepared, recipe(data, min_steps=0)) == lines_of(prepared)


def test_quarantine_files_are_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_summary, "MAX_QUARANTINED", 3)
    rows: list[Any] = [{"a": "<b>\0"}, {"z": "x" * 5000}, None, {"never": "shown"}]
    lines = [
        {"file": "r.jsonl", "line": line, "reason": f"reason {line}", "row": row}
        for line, row in enumerate(rows, 1)
    ]
    file = tmp_path / "quarantine.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    summary = summarize_data(PreparedData(NOTHING, NOTHING, DataReport(quarantine_files=[file])))
    # '{"z": "xxx…"}' has 5,009 characters, of which 1,000 are shown.
    assert summary.quarantined == (
        QuarantinedRow("r.jsonl:1", "reason 1", '{"a": "<b>\\u0000"}'),
        QuarantinedRow("r.jsonl:2", "reason 2", f'{{"z": "{"x" * 993} … and 4,009 more characters'),
        QuarantinedRow("r.jsonl:3", "reason 3", "not readable"),
    )
    assert summary.quarantine_files == (file,)


def test_summary_of_a_written_report_equals_that_of_the_data(
    counted: tuple[PreparedData, InstructionData],
) -> None:
    prepared, _ = counted
    from_data = summarize_data(prepared)
    from_report = summarize_report(json.loads(json.dumps(prepared.report.to_dict())))
    assert (from_report.rows, from_report.anomalies) == (from_data.rows, from_data.anomalies)
    assert [split.tokens for split in from_report.splits] == [210, 0]
