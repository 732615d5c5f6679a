"""Samples are turned back into text, run by run, and nothing is lost between two runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from xft.data import InstructionData
from xft.reporting.inspect_samples import Reader
from xft.templates import SOURCES, ChatTemplate
from xft.types import IGNORE_INDEX, Row, Sample


@pytest.mark.parametrize(
    "name", ["smollm2_tokenizer", "qwen3_tokenizer", "llama3_tokenizer", "internlm2_tokenizer"]
)
def test_texts_of_the_runs_are_the_text_of_the_sample(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tokenizer = request.getfixturevalue(name)
    template = ChatTemplate(SOURCES["llama3_chat" if name.startswith("llama3") else "chatml"]).bind(
        tokenizer
    )
    answers = ["Hello there", " a space first", "你好，世界", "🎉👩‍👩‍👧 é ", "x\n\n  y\t", "'s isn't , . "]
    rows: list[Row] = [
        {"instruction": f"{question} {at}", "output": f"{answer}{at}"}
        for at, (question, answer) in enumerate(zip(answers[::-1], answers, strict=True))
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    data = InstructionData(str(path), val_split=None, cache_dir=str(tmp_path / "cache"))
    for sample in data.prepare(tokenizer, template).train:
        runs = Reader(tokenizer).runs(sample)
        whole = tokenizer.decode(
            sample.input_ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert "".join(each.text for each in runs) == whole
        assert [token for each in runs for token in each.ids] == sample.input_ids.tolist()
        assert "�" not in whole


def test_space_at_the_beginning_of_a_run_is_kept() -> None:
    """Llama 2's decoder takes the space off the first token of whatever it is given."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"▁Hello": 0, "▁there": 1, "▁you": 2}, unk_token="▁you"))
    words.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", left=1, right=0)]
    )
    sample = Sample(np.array([0, 1, 2], np.int32), np.array([IGNORE_INDEX, 1, 2], np.int32))
    runs = Reader(PreTrainedTokenizerFast(tokenizer_object=words)).runs(sample)
    assert [(each.trained, each.text) for each in runs] == [(False, "Hello"), (True, " there you")]
