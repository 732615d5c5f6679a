"""Decoding of samples span by span, without loss between spans."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_images import FakeProcessor
from helpers.pictures import encoded, picture

from xft.data import InstructionData
from xft.data.images.reading import open_image
from xft.reporting.inspect_samples import SampleDecoder, colorize_sample, image_label
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
    decoder = SampleDecoder(tokenizer)
    assert colorize_sample(sample, decoder, color=False) == "Hello[[ there you]]"
    assert colorize_sample(sample, decoder, color=True) == "\033[90mHello\033[0m\033[32m there you\033[0m"


def test_tokens_of_an_image_are_one_span(tmp_path: Path) -> None:
    processor, tokenizer = FakeImages(), make_tokenizer()
    image = open_image(encoded(picture(20, 30)), tmp_path, "image")
    ids = np.array([2, 3, 3, 3, 2, 3], np.int32)
    sample = Sample(ids, np.full(6, IGNORE_INDEX, np.int32), images=(image,))
    spans = SampleDecoder(tokenizer, processor.token_ids).spans(sample)
    assert [span.text.strip() for span in spans] == ["a", "<img>×3", "a", "<img>"]
    assert [token for span in spans for token in span.ids] == ids.tolist()
    assert (
        image_label(image, processor) == f"{len(image.data):,} bytes of the row, 30x20 pixels, 600 tokens"
    )
    named = open_image(str(write(tmp_path / "a.png")), tmp_path, "image")
    assert image_label(named, processor) == "a.png, 30x20 pixels, 600 tokens"


class FakeImages(FakeProcessor):
    """A processor whose token has the id 3."""

    token_ids = frozenset({3})


def make_tokenizer() -> Any:
    """A tokenizer of the letter a, and of the token of an image."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 2, "<img>": 3}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<img>"]})
    return tokenizer


def write(path: Path) -> Path:
    """Write a picture."""
    path.write_bytes(encoded(picture(20, 30)))
    return path
