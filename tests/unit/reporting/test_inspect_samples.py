"""Decoding of samples span by span, without loss between spans."""

import json
from pathlib import Path

import numpy as np
import pytest

from xft.data import InstructionData
from xft.reporting.inspect_samples import SampleDecoder, colorize_sample
from xft.templates import SOURCES, ChatTemplate
from xft.types import IGNORE_INDEX, Row, Sample


@pytest.mark.parametrize(
    "name", ["smollm2_tokenizer", "qwen3_tokenizer", "llama3_tokenizer", "internlm2_tokenizer"]
)
def test_spans_add_up_to_the_text_of_the_sample(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tokenizer = request.getfixturevalue(name)
    template = ChatTemplate(SOURCES["llama3_chat" if name.startswith("llama3") else "chatml"]).bind(
        tokenizer
    )
    answers = ["Hello there", " a space first", "你好，世界", "🎉👩‍👩‍👧 é ", "x\n\n  y\t", "'s isn't , . "]
    rows: list[Row] = [
        {"instruction": f"{question} {index}", "output": f"{answer}{index}"}
        for index, (question, answer) in enumerate(zip(answers[::-1], answers, strict=True))
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = InstructionData(str(path), val_split=None, cache_dir=str(tmp_path / "cache"))
    for sample in data.prepare(tokenizer, template).train:
        spans = SampleDecoder(tokenizer).spans(sample)
        text = tokenizer.decode(
            sample.input_ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert "".join(span.text for span in spans) == text
        assert [token for span in spans for token in span.ids] == sample.input_ids.tolist()
        assert "�" not in text


def test_spans_keep_a_leading_space() -> None:
    """Llama 2's decoder strips the space of the first token."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"▁Hello": 0, "▁there": 1, "▁you": 2}, unk_token="▁you"))
    words.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", left=1, right=0)]
    )
    sample = Sample(np.array([0, 1, 2], np.int32), np.array([IGNORE_INDEX, 1, 2], np.int32))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    spans = SampleDecoder(tokenizer).spans(sample)
    assert [(span.is_target, span.text) for span in spans] == [(False, "Hello"), (True, " there you")]
    assert colorize_sample(sample, tokenizer, color=False) == "Hello[[ there you]]"
    assert colorize_sample(sample, tokenizer, color=True) == "\033[90mHello\033[0m\033[32m there you\033[0m"
