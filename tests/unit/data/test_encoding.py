"""Encode: ids and labels of texts whose tokens can be counted by hand, shortening, raw text."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xft.data.encoding.tokenize import encode_conversations, encode_texts
from xft.data.encoding.truncate import truncate as truncate_conversation
from xft.errors import DataError, ModelError, TemplateError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Conversation, Message, Messages, Sample

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FRAME = 21
"""Tokens of ChatML around a question and an answer: 4 special, ``user`` and ``assistant``, 4 breaks."""

SMOLLM2_KNOWS = st.characters(
    max_codepoint=0x3FFFF, exclude_categories=("Cs",), exclude_characters="\x04\x06\x13\x14\x16\x1d"
)
"""SmolLM2's vocabulary lacks a few bytes that no real text holds; they come back as U+FFFD."""


@pytest.fixture(scope="module")
def chatml(byte_tokenizer: Any) -> BoundTemplate:
    return ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)


def talk(question: str, answer: str, *, trained: bool = True) -> list[Message]:
    return [Message("user", question), Message("assistant", answer, trained)]


def encode(conversation: Messages, template: BoundTemplate) -> Sample:
    [sample] = encode_conversations([Conversation(conversation)], template, template.tokenizer)
    assert isinstance(sample, Sample), sample
    return sample


def truncate(
    conversation: Messages, template: BoundTemplate, tokenizer: Any, max_length: int
) -> Sample | None:
    return truncate_conversation(Conversation(conversation), template, tokenizer, max_length)


def encode_text(text: str, tokenizer: Any, max_length: int) -> list[Sample]:
    [chunks] = encode_texts([text], tokenizer, max_length)
    return chunks


def trained_ids(sample: Sample) -> list[int]:
    return [int(each) for each in sample.labels if each != IGNORE_INDEX]


# Conversations


def test_labels_mark_the_bytes_of_the_answer_and_its_end(chatml: BoundTemplate) -> None:
    tokenizer = chatml.tokenizer
    sample = encode(talk("q", "abc"), chatml)
    [start, end] = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    a, b, c = tokenizer.convert_tokens_to_ids(["a", "b", "c"])
    assert len(sample) == FRAME + 1 + 3
    assert sample.input_ids[0] == start
    assert sample.labels.tolist() == [IGNORE_INDEX] * (FRAME + 1 + 3 - 5) + [a, b, c, end, IGNORE_INDEX]
    assert sample.num_targets == 4


def test_labels_of_multi_byte_characters_are_whole(chatml: BoundTemplate) -> None:
    sample = encode(talk("é", "中😀"), chatml)
    assert sample.num_targets == 3 + 4 + 1
    assert chatml.tokenizer.decode(trained_ids(sample)) == "中😀<|im_end|>"


def test_labels_are_ids_or_ignored(chatml: BoundTemplate) -> None:
    sample = encode([*talk("a", "b", trained=False), *talk("c", "d")], chatml)
    same = sample.labels == sample.input_ids
    assert same.sum() == 2
    assert (sample.labels[~same] == IGNORE_INDEX).all()
    assert chatml.tokenizer.decode(trained_ids(sample)) == "d<|im_end|>"


def test_error_of_one_conversation_leaves_the_others(byte_tokenizer: Any) -> None:
    source = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + SOURCES["chatml"]
    )
    template = ChatTemplate(source).bind(byte_tokenizer)
    good = talk("q", "abc")
    results = encode_conversations(
        [Conversation(each) for each in (good, [Message("system", "s"), *good], good)],
        template,
        byte_tokenizer,
    )
    assert [type(each) for each in results] == [Sample, TemplateError, Sample]


def test_text_that_begins_with_bos_twice_is_refused(byte_tokenizer: Any) -> None:
    template = ChatTemplate("{{ bos_token + bos_token }}" + SOURCES["chatml"]).bind(byte_tokenizer)
    [error] = encode_conversations([Conversation(talk("q", "a"))], template, byte_tokenizer)
    assert isinstance(error, TemplateError)
    assert "beginning-of-text token twice" in str(error)


def test_text_that_begins_with_bos_once_is_taken(byte_tokenizer: Any) -> None:
    template = ChatTemplate(SOURCES["internlm2_chat"]).bind(byte_tokenizer)
    sample = encode(talk("q", "a"), template)
    assert sample.input_ids.tolist().count(byte_tokenizer.bos_token_id) == 1
    assert sample.input_ids[0] == byte_tokenizer.bos_token_id


def test_lone_surrogate_is_an_error_of_its_row_alone(chatml: BoundTemplate) -> None:
    r"""JSON may hold ``"\ud800"``, which is no text that a tokenizer takes."""
    good = talk("q", "a")
    results = encode_conversations(
        [Conversation(each) for each in (good, talk("q", "\ud800"), good)], chatml, chatml.tokenizer
    )
    assert isinstance(results[0], Sample)
    assert isinstance(results[1], DataError)
    assert isinstance(results[2], Sample)


@pytest.mark.parametrize("name", ["smollm2_tokenizer", "qwen3_tokenizer", "llama3_tokenizer"])
def test_answer_that_begins_with_line_breaks_equals_the_inference_prompt(
    name: str, request: pytest.FixtureRequest
) -> None:
    """A token that spans the header and the answer is not trained: at inference it stands elsewhere."""
    tokenizer = request.getfixturevalue(name)
    template = ChatTemplate().bind(tokenizer)
    sample = encode(talk("Hi", "\n\nHello"), template)
    trained = np.flatnonzero(sample.labels != IGNORE_INDEX)
    assert tokenizer.decode(sample.input_ids[trained]).endswith(f"Hello{template.end_of_turn}")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\n\nHello"}], tokenize=False
    )
    assert tokenizer.decode(sample.input_ids) == text


# Shortening


@pytest.mark.parametrize("max_length", range(FRAME + 2, FRAME + 13))
def test_shortened_answer_fills_max_length_and_keeps_its_frame(
    max_length: int, chatml: BoundTemplate
) -> None:
    sample = truncate(talk("q", "abcdefghijkl"), chatml, chatml.tokenizer, max_length)
    assert sample is not None
    kept = "abcdefghijkl"[: max_length - FRAME - 1]
    assert sample.text == f"<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n{kept}<|im_end|>\n"
    assert len(sample) == max_length
    assert chatml.tokenizer.decode(trained_ids(sample)) == f"{kept}<|im_end|>"


def test_shortening_a_chat_takes_away_whole_exchanges_oldest_first(chatml: BoundTemplate) -> None:
    rules = [Message("system", "rules")]
    first, second, third = talk("one?", "1"), talk("two?", "2"), talk("three?", "3")
    whole = encode([*rules, *first, *second, *third], chatml)
    without_one = encode([*rules, *second, *third], chatml)
    without_two = encode([*rules, *third], chatml)
    for max_length, expected in (
        (len(whole), whole),
        (len(whole) - 1, without_one),
        (len(without_one), without_one),
        (len(without_one) - 1, without_two),
        (len(without_two), without_two),
    ):
        sample = truncate([*rules, *first, *second, *third], chatml, chatml.tokenizer, max_length)
        assert sample is not None
        assert sample.text == expected.text


def test_shortening_a_chat_keeps_an_answer_to_learn(chatml: BoundTemplate) -> None:
    """Of the two exchanges only the first is trained: it stays, and its question is cut."""
    conversation = [*talk("a long question", "yes"), *talk("why?", "because", trained=False)]
    full = encode(conversation, chatml)
    sample = truncate(conversation, chatml, chatml.tokenizer, len(full) - 4)
    assert sample is not None
    assert sample.text == full.text.replace("a long question", "a long ques")


def test_shortening_cuts_the_longest_turn_and_no_other(chatml: BoundTemplate) -> None:
    conversation = [Message("system", "rules"), *talk("a long question", "yes")]
    full = encode(conversation, chatml)
    sample = truncate(conversation, chatml, chatml.tokenizer, len(full) - 4)
    assert sample is not None
    assert sample.text == full.text.replace("a long question", "a long ques")


def test_shortening_drops_white_space_at_the_cut(chatml: BoundTemplate) -> None:
    sample = truncate(talk("q", "abc    defg"), chatml, chatml.tokenizer, FRAME + 1 + 6)
    assert sample is not None
    assert sample.text.endswith("assistant\nabc<|im_end|>\n")


def test_shortening_cuts_more_turns_where_one_is_not_enough(chatml: BoundTemplate) -> None:
    sample = truncate(talk("abcdef", "ghijklm"), chatml, chatml.tokenizer, FRAME + 5)
    assert sample is not None
    assert len(sample) <= FRAME + 5
    assert sample.text.count("<|im_start|>") == sample.text.count("<|im_end|>") == 2


def test_shortening_gives_up_where_the_frame_alone_is_too_long(chatml: BoundTemplate) -> None:
    assert truncate(talk("abcdef", "ghijkl"), chatml, chatml.tokenizer, FRAME) is None


def test_conversation_that_fits_is_not_shortened(chatml: BoundTemplate) -> None:
    sample = truncate(talk("q", "abc"), chatml, chatml.tokenizer, FRAME + 4)
    assert sample is not None
    assert sample.text == encode(talk("q", "abc"), chatml).text


@pytest.mark.parametrize("excess", range(1, 10))
def test_shortening_cuts_characters_of_several_tokens_whole(excess: int, chatml: BoundTemplate) -> None:
    """The last character is 4 tokens. To be too long by 1, 2 or 3 of them is no reason to drop a row."""
    conversation = talk("q", "hello 😀")
    full = FRAME + 1 + 10
    sample = truncate(conversation, chatml, chatml.tokenizer, full - excess)
    assert sample is not None
    assert len(sample) <= full - excess
    answer = sample.text.partition("assistant\n")[2]
    assert "hello 😀".startswith(answer.removesuffix("<|im_end|>\n"))


@pytest.mark.parametrize("name", ["smollm2_tokenizer", "qwen3_tokenizer", "llama3_tokenizer"])
def test_real_rows_are_shortened_to_max_length_with_their_end_of_turn(
    name: str, request: pytest.FixtureRequest, shared: Path
) -> None:
    tokenizer = request.getfixturevalue(name)
    template = ChatTemplate().bind(tokenizer)
    rows = json.loads((shared / "data" / "alpaca_zh_demo.json").read_text(encoding="utf-8"))[:60]
    shortened = 0
    for row in rows:
        conversation = talk(row["instruction"], row["output"])
        full = encode(conversation, template)
        if len(full) <= 100:
            continue
        sample = truncate(conversation, template, tokenizer, 100)
        assert sample is not None, row
        assert 90 < len(sample) <= 100
        assert tokenizer.decode(trained_ids(sample)).endswith(template.end_of_turn)
        assert template.generation_prompt in sample.text
        shortened += 1
    assert shortened > 10


# Raw text


def assert_is_document(chunks: list[Sample], text: str, tokenizer: Any, max_length: int) -> None:
    """Every token trained once, in order, each with the one before it as context."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    eos = tokenizer.eos_token_id
    assert sum(each.num_targets for each in chunks) == len(ids) + 1
    assert [token for each in chunks for token in trained_ids(each)] == [*ids, eos]
    for chunk in chunks:
        assert 2 <= len(chunk) <= max_length
        assert chunk.labels[0] == IGNORE_INDEX
        assert chunk.labels[1:].tolist() == chunk.input_ids[1:].tolist()
    for before, after in pairwise(chunks):
        assert len(before) == max_length
        assert after.input_ids[0] == before.input_ids[-1]
    joined = [int(token) for each in chunks for token in each.input_ids[1:]]
    assert joined[-1] == eos
    decoded = tokenizer.decode(joined[:-1], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert decoded == text


@QUICK
@given(text=st.text(max_size=80), max_length=st.integers(8, 40))
def test_document_of_bytes_is_trained_whole(byte_tokenizer: Any, text: str, max_length: int) -> None:
    chunks = encode_text(text, byte_tokenizer, max_length)
    assert_is_document(chunks, text, byte_tokenizer, max_length)
    assert sum(each.num_targets for each in chunks) == len(text.encode()) + 1


@QUICK
@given(text=st.text(SMOLLM2_KNOWS, max_size=80), max_length=st.integers(8, 40))
def test_document_is_trained_whole(smollm2_tokenizer: Any, text: str, max_length: int) -> None:
    chunks = encode_text(text, smollm2_tokenizer, max_length)
    assert_is_document(chunks, text, smollm2_tokenizer, max_length)


@pytest.mark.parametrize("length", [15, 16, 17, 29, 30, 31, 44, 45, 46])
def test_document_about_as_long_as_its_chunks_leaves_no_empty_chunk(
    byte_tokenizer: Any, length: int
) -> None:
    chunks = encode_text("x" * length, byte_tokenizer, 16)
    # 15 targets a chunk, and one EOS behind the document.
    assert [each.num_targets for each in chunks[:-1]] == [15] * (len(chunks) - 1)
    assert chunks[-1].num_targets == (length + 1) - 15 * (len(chunks) - 1)
    assert 1 <= chunks[-1].num_targets <= 15


def test_empty_document_trains_its_eos_only(byte_tokenizer: Any) -> None:
    [chunk] = encode_text("", byte_tokenizer, 8)
    eos = byte_tokenizer.eos_token_id
    assert chunk.input_ids.tolist() == [eos, eos]
    assert chunk.labels.tolist() == [IGNORE_INDEX, eos]


def test_document_begins_with_bos_where_the_tokenizer_puts_it(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert tokenizer("ab")["input_ids"] == [
        tokenizer.bos_token_id,
        *tokenizer.convert_tokens_to_ids(["a", "b"]),
    ]
    chunks = encode_text("Once upon a time", tokenizer, 8)
    assert chunks[0].input_ids[0] == tokenizer.bos_token_id
    assert_is_document(chunks, "Once upon a time", tokenizer, 8)


def test_document_begins_with_eos_where_the_tokenizer_puts_no_bos(qwen3_tokenizer: Any) -> None:
    assert qwen3_tokenizer("")["input_ids"] == []
    chunks = encode_text("Once upon a time there was a spider.", qwen3_tokenizer, 8)
    assert chunks[0].input_ids[0] == qwen3_tokenizer.eos_token_id
    assert_is_document(chunks, "Once upon a time there was a spider.", qwen3_tokenizer, 8)


def test_document_needs_an_eos_token(make_byte_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError) as caught:
        encode_text("x", tokenizer, 8)
    assert caught.value.key == "tokenizer.eos_token"
