"""Truncation of conversations."""

import json
from pathlib import Path
from typing import Any

import pytest

from xft.data.encoding.tokenize import encode_conversations
from xft.data.encoding.truncate import truncate as truncate_conversation
from xft.templates import BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Conversation, Message, Messages, Sample

FRAME = 21
"""Tokens of ChatML around a question and an answer: 4 special, ``user`` and ``assistant``, 4 breaks."""


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


def trained_ids(sample: Sample) -> list[int]:
    return [int(each) for each in sample.labels if each != IGNORE_INDEX]


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
