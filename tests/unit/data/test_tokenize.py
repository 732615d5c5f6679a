"""Ids and labels of conversations and documents."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xft.data.encoding.tokenize import encode_conversations, encode_texts
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


def talk(question: str, answer: str, *, trained: bool = True) -> list[Message]:
    return [Message("user", question), Message("assistant", answer, trained)]


def encode(conversation: Messages, template: BoundTemplate) -> Sample:
    [sample] = encode_conversations([Conversation(conversation)], template, template.tokenizer)
    assert isinstance(sample, Sample), sample
    return sample


def encode_text(text: str, tokenizer: Any, max_length: int) -> list[Sample]:
    [chunks] = encode_texts([text], tokenizer, max_length)
    return chunks


def trained_ids(sample: Sample) -> list[int]:
    return [int(each) for each in sample.labels if each != IGNORE_INDEX]


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
