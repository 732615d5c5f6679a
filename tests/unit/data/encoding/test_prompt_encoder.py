"""Encoding of prompts: no targets, all columns kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from xft.data import PromptData, formats
from xft.errors import ConfigError, DataError
from xft.templates import BoundTemplate
from xft.types import IGNORE_INDEX, Message, Row


def prepare(folder: Path, rows: list[Row], chatml: BoundTemplate, **options: Any) -> Any:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"val_split": None, "cache_dir": str(folder / "cache"), **options}
    return PromptData(str(file), **settings).prepare(chatml.tokenizer, chatml)


def test_a_prompt_ends_where_the_answer_begins(tmp_path: Path, chatml: BoundTemplate) -> None:
    data = prepare(tmp_path, [{"prompt": "Hi", "reference": "Hello"}], chatml)
    (sample,) = data.train
    text = chatml.tokenizer.decode(sample.input_ids)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert sample.num_targets == 0


def test_all_columns_are_kept_for_the_rewards(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows: list[Row] = [
        {"prompt": f"q{number}", "reference": number, "extra": {"ünï": ["\n", None, 1.5]}}
        for number in range(5)
    ]
    data = prepare(tmp_path, rows, chatml)
    assert [data.train.columns(index) for index in range(5)] == rows
    assert not data.report.ignored_columns
    # From the cache now.
    again = prepare(tmp_path, rows, chatml)
    assert again.train.columns(3) == rows[3]


def test_a_last_answer_is_left_out(tmp_path: Path, chatml: BoundTemplate) -> None:
    data = prepare(tmp_path, [{"instruction": "Hi", "output": "Hello"}], chatml, format=formats.alpaca)
    assert "Hello" not in chatml.tokenizer.decode(data.train[0].input_ids)
    assert data.train.columns(0)["output"] == "Hello"


def test_kept_answers_follow_the_prompt_as_targets(tmp_path: Path, chatml: BoundTemplate) -> None:
    row = {"instruction": "Hi", "output": "Hello"}
    (sample,) = prepare(tmp_path, [row], chatml, format=formats.alpaca, keep_answers=True).train
    (prompt,) = prepare(tmp_path, [row], chatml, format=formats.alpaca).train
    length = len(prompt.input_ids)
    assert sample.input_ids[:length].tolist() == prompt.input_ids.tolist()
    assert (sample.labels[:length] == IGNORE_INDEX).all()
    assert sample.labels[length:].tolist() == sample.input_ids[length:].tolist()
    assert chatml.tokenizer.decode(sample.input_ids[length:]) == "Hello<|im_end|>"
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, [{"prompt": "Hi"}], chatml, keep_answers=True)
    assert caught.value.key == "data.keep_answers"


def test_long_prompts_are_dropped_whole(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows: list[Row] = [{"prompt": "a" * length} for length in (3, 200)]
    data = prepare(tmp_path, rows, chatml, max_length=64, max_overlong_fraction=0.5)
    assert len(data.train) == 1
    assert data.report.rows_dropped.total() == 1


@pytest.mark.parametrize(
    "prompt", ["", "  ", [{"role": "system", "content": "s"}], [], [{"role": "user", "content": ""}]]
)
def test_prompts_that_nobody_can_answer_are_refused(
    prompt: Any, tmp_path: Path, chatml: BoundTemplate
) -> None:
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, [{"prompt": prompt}], chatml, format="prompt")
    assert "rows.jsonl:1" in str(caught.value)


@pytest.mark.parametrize("messages", [[], [Message("assistant", "Hi", True)]])
def test_prompt_without_messages_raises(
    messages: list[Message], tmp_path: Path, chatml: BoundTemplate
) -> None:
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, [{"prompt": "Hi"}], chatml, format=lambda row: messages)
    assert (caught.value.key, caught.value.got) == ("prompt", "no message")


@pytest.mark.parametrize(
    ("key", "value"), [("packing", True), ("packing", "auto"), ("on_overlong", "truncate")]
)
def test_prompts_are_neither_packed_nor_truncated(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        PromptData("rows.jsonl", **{key: value})
    assert caught.value.key == f"data.{key}"
