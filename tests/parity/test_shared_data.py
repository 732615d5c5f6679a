"""Real data sets pass through whole: every row is trained on, validated on, or dropped with a reason."""

from pathlib import Path
from typing import Any

import pytest

from xft.data import DatasetConfig, InstructionData, PreferenceData, PreparedData, TextData, formats
from xft.data.batching.packing import pack, packing_efficiency
from xft.templates import ChatTemplate
from xft.types import IGNORE_INDEX

ROWS = {
    "alpaca_en_demo.json": 999,
    "alpaca_zh_demo.json": 1000,
    "identity.json": 91,
    "glaive_toolcall_en_demo.json": 300,
    "dpo_en_demo.json": 300,
    "c4_demo.jsonl": 300,
    "wiki_demo.txt": 30,
}


def prepare(data: DatasetConfig, tokenizer: Any) -> PreparedData:
    template = ChatTemplate().bind(tokenizer) if data.uses_template else None
    return data.prepare(tokenizer, template)


@pytest.mark.parametrize("file", ROWS)
def test_every_row_of_a_real_set_is_kept(file: str, shared: Path, qwen3_tokenizer: Any) -> None:
    path = str(shared / "data" / file)
    by_file: dict[str, DatasetConfig] = {
        "glaive_toolcall_en_demo.json": InstructionData(path, formats.sharegpt, max_length=16384),
        "dpo_en_demo.json": PreferenceData(path, formats.sharegpt_preference, max_length=16384),
        "c4_demo.jsonl": TextData(path),
        "wiki_demo.txt": TextData(path),
    }
    prepared = prepare(by_file.get(file, InstructionData(path, max_length=16384)), qwen3_tokenizer)
    report = prepared.report
    assert report.rows_read == report.rows_train + report.rows_val == ROWS[file]
    assert not report.rows_dropped
    assert not report.quarantined
    for samples in (prepared.train, prepared.val):
        assert len(samples)
        assert samples.targets.min() > 0, "every sample has something to learn"


def test_calls_and_results_of_tools_are_where_the_official_template_has_them(
    shared: Path, qwen3_tokenizer: Any
) -> None:
    path = str(shared / "data" / "glaive_toolcall_en_demo.json")
    data = InstructionData(path, formats.sharegpt, max_length=16384, val_split=None)
    calls = results = 0
    for sample in prepare(data, qwen3_tokenizer).train:
        trained = qwen3_tokenizer.decode(sample.labels[sample.labels != IGNORE_INDEX])
        rest = qwen3_tokenizer.decode(sample.input_ids[sample.labels == IGNORE_INDEX])
        calls += trained.count("<tool_call>")
        results += rest.count("<tool_response>")
        assert "<tool_response>" not in trained
        assert trained.count("<|im_end|>") >= 1
    # Counted in the file: turns from function_call, and turns from observation.
    import json

    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    said = [turn["from"] for row in rows for turn in row["conversations"]]
    assert (calls, results) == (said.count("function_call"), said.count("observation"))


@pytest.mark.parametrize("name", ["smollm2_tokenizer", "qwen3_tokenizer", "llama3_tokenizer"])
def test_packing_fills_rows_of_real_samples(
    name: str, shared: Path, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(name)
    path = str(shared / "data" / "alpaca_en_demo.json")
    lengths = prepare(InstructionData(path, val_split=None), tokenizer).train.lengths.tolist()
    rows = pack(lengths, 2048)
    assert sorted(each for row in rows for each in row) == list(range(999))
    assert packing_efficiency(lengths, rows, 2048) >= 0.97
