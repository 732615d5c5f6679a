"""Rows of questions and answers, and their ChatML text if each byte is a token."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xft.data import DataReport, InstructionData, PreparedData
from xft.templates import BoundTemplate
from xft.types import Row, Sample

FRAME = 21
"""Tokens of ChatML around a question and an answer."""


def qa(number: int, answer: str = "") -> Row:
    """Return an Alpaca row."""
    return {"instruction": f"q{number}", "output": answer or f"a{number}"}


def write_rows(folder: Path, rows: Iterable[Row], name: str = "rows.jsonl") -> str:
    """Write rows as JSON lines, and return the path."""
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def chatml_text(question: str, answer: str) -> str:
    """Return the ChatML text of a question and an answer."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


def prepare(data: InstructionData, template: BoundTemplate) -> PreparedData:
    """Prepare a dataset with the tokenizer of a template."""
    return data.prepare(template.tokenizer, template)


def decode(samples: Iterable[Sample], tokenizer: Any) -> list[str]:
    """Return the text of each sample."""
    return [tokenizer.decode(sample.input_ids) for sample in samples]


def quarantined_rows(report: DataReport) -> list[dict[str, Any]]:
    """Read all quarantined rows from their files."""
    return [
        json.loads(line)
        for file in report.quarantine_files
        for line in file.read_text(encoding="utf-8").split("\n")
        if line
    ]


def assert_balanced(report: DataReport, read: int) -> None:
    """Check that all rows read are in the training split, in the validation split, or dropped."""
    assert report.rows_read == read
    assert report.rows_train + report.rows_val + report.rows_dropped.total() == read
