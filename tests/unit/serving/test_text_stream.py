"""Incremental decoding and stop texts."""

import random
import time
from typing import Any

import pytest

from xft.serving.server.text_stream import StopMatcher, TextStream


@pytest.mark.parametrize(
    "text", ["  Hello, world!", "ä€𝄞 你好 👩\u200d💻\n\tEnd. ", "שלום\n\n  x" * 9, "a  b   c .  d , e ' s"]
)
@pytest.mark.parametrize(
    "name", ["byte_tokenizer", "qwen3_tokenizer", "llama3_tokenizer", "smollm2_tokenizer"]
)
def test_pieces_join_to_the_text_decoded_in_full(
    text: str, name: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(name)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer)
    pieces = [stream.add(token) for token in ids]
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + stream.finish() == tokenizer.decode(ids, skip_special_tokens=True)


def test_special_tokens_are_left_out_unless_kept(byte_tokenizer: Any) -> None:
    ids = byte_tokenizer("a<|im_start|>b<|im_end|>")["input_ids"]
    kept = byte_tokenizer.convert_tokens_to_ids("<|im_end|>")
    for kept_ids, text in (((), "ab"), ((kept,), "ab<|im_end|>")):
        stream = TextStream(byte_tokenizer, kept_ids)
        assert "".join(map(stream.add, ids)) + stream.finish() == text


def test_invalid_bytes_do_not_delay_text_forever(byte_tokenizer: Any) -> None:
    invalid = byte_tokenizer("ä")["input_ids"][0]
    stream = TextStream(byte_tokenizer)
    pieces = [stream.add(invalid) for _ in range(200)]
    assert any(pieces)
    assert len("".join(pieces) + stream.finish()) == 200


def test_stop_matcher_agrees_with_a_search_in_the_full_text() -> None:
    """The first stop text to end counts; of several that end together, the longest."""
    choose = random.Random(1)
    for _ in range(2000):
        text = "".join(choose.choices("ab", k=30))
        stops = ["".join(choose.choices("ab", k=choose.randint(1, 7))) for _ in range(3)]
        ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
        matcher = StopMatcher(stops)
        offset = None
        position = 0
        while position < len(text) and offset is None:
            step = choose.randint(1, 5)
            offset = matcher.feed(text[position : position + step])
            position += step
            if offset is None:
                longest = max(
                    n
                    for n in range(7)
                    if any(text[:position].endswith(stop[:n]) for stop in stops if n <= len(stop))
                )
                assert matcher.num_held == longest
        assert offset == (min(ends)[1] if ends else None)


def test_stop_matching_time_is_linear() -> None:
    """A naive comparison of ends takes 10,000 times 10,000 steps for this text."""
    start = time.perf_counter()
    matcher = StopMatcher(["a" * 10_000 + "b"])
    for _ in range(100_000):
        assert matcher.feed("a") is None
    assert matcher.num_held == 10_000
    assert time.perf_counter() - start < 10
