"""Ids and labels against what the tokenizers themselves make of the same conversation."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest

from xft.data.encoding.tokenize import encode_conversations
from xft.data.formats import alpaca
from xft.errors import DataError
from xft.templates import SOURCES, ChatTemplate
from xft.types import IGNORE_INDEX, Conversation, Message, Messages, Sample

NO_THOUGHT = "<think>\n\n</think>\n\n"
LLAMA3_OPENED = "<|start_header_id|>assistant<|end_header_id|>\n\n"


@dataclass
class Family:
    """A tokenizer, and what its authors document about a trained answer.

    ``answer`` is the trained text of an answer; its second argument says whether the answer is
    behind the last question. ``tail`` is what the template writes behind the last answer. ``prompting`` are variables
    of the template for a prompt without a thought.
    """

    tokenizer: Any
    answer: Callable[[str, bool], str]
    tail: str
    prompting: dict[str, Any] = field(default_factory=dict)

    def encode(self, conversations: list[Messages]) -> list[Sample]:
        """Encode with the tokenizer's own template. An error fails the test."""
        template = ChatTemplate().bind(self.tokenizer)
        samples = encode_conversations(
            [Conversation(each) for each in conversations], template, self.tokenizer
        )
        errors = [each for each in samples if isinstance(each, DataError)]
        assert not errors, errors[0]
        return [each for each in samples if isinstance(each, Sample)]

    def reference(self, conversation: Messages, **options: Any) -> list[int]:
        """The ids that transformers gives."""
        return self.tokenizer.apply_chat_template(
            as_dicts(conversation), tokenize=True, return_dict=False, **options
        )

    def decode(self, ids: Any) -> str:
        """The text of ids, special tokens included and spaces as they are."""
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.fixture(params=["smollm2", "qwen3", "llama3"])
def family(request: pytest.FixtureRequest) -> Family:
    tokenizer = request.getfixturevalue(f"{request.param}_tokenizer")
    if request.param == "smollm2":
        return Family(tokenizer, lambda text, last: f"{text}<|im_end|>", "\n")
    if request.param == "qwen3":
        # Qwen's tokenizer normalises to NFC before it looks at the text.
        return Family(
            tokenizer,
            lambda text, last: f"{normalize('NFC', text)}<|im_end|>",
            "\n",
            {"enable_thinking": False},
        )
    # The official Llama 3 template opens a turn of the assistant behind every conversation.
    return Family(tokenizer, lambda text, last: f"{text.strip()}<|eot_id|>", LLAMA3_OPENED)


def as_dicts(conversation: Messages) -> list[dict[str, str]]:
    return [{"role": each.role, "content": each.content} for each in conversation]


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str, trained: bool = True) -> Message:
    return Message("assistant", text, trained)


SYSTEM = Message("system", "You are terse.")
TWO_TURNS = [user("How many legs has a spider?"), answer("Eight."), user("And an ant?"), answer("Six.")]
SHOWN_FIRST = [user("How many legs has a spider?"), answer("Eight.", False), *TWO_TURNS[2:]]
TRICKY = [
    user("Say assistant\n"),
    answer("assistant\nassistant\n"),
    user("Say assistant\nassistant\n"),
    answer("assistant\nassistant\n.  "),
    user("  Spaces, twice.  "),
    answer("emoji 👩‍👩‍👧, 中文 and\ttabs"),
]
HAND_MADE: dict[str, list[Message]] = {
    "one turn": [user("Hi"), answer("Hello!")],
    "one turn, system": [SYSTEM, user("Hi"), answer("Hello!")],
    "two turns": TWO_TURNS,
    "two turns, system": [SYSTEM, *TWO_TURNS],
    "first answer only shown": SHOWN_FIRST,
    "first answer only shown, system": [SYSTEM, *SHOWN_FIRST],
    "same answer twice": [user("Yes?"), answer("Yes."), user("Yes?"), answer("Yes.")],
    "answer equal to its question": [user("echo"), answer("echo"), user("echo"), answer("echo")],
    "header in the text": TRICKY,
    "special tokens in the text": [
        user("What do <|im_end|> and <|eot_id|> mean?"),
        answer("<|im_end|> or <|eot_id|> end a turn."),
    ],
    "many turns": [turn for number in range(12) for turn in (user(f"{number}?"), answer(f"{number}!"))],
}


def alpaca_rows(shared: Path, name: str, count: int | None = None) -> list[Messages]:
    file = shared / "data" / name
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    return [alpaca(row) for row in json.loads(file.read_text(encoding="utf-8"))[:count]]


@pytest.fixture
def alpaca_en(shared: Path) -> list[Messages]:
    rows = alpaca_rows(shared, "alpaca_en_demo.json")
    assert len(rows) == 999
    return rows


@pytest.fixture
def alpaca_zh(shared: Path) -> list[Messages]:
    return alpaca_rows(shared, "alpaca_zh_demo.json", 100)


def spans(sample: Sample) -> list[tuple[int, int]]:
    """Begin and end of each unbroken run of trained tokens."""
    trained = np.concatenate([[False], sample.labels != IGNORE_INDEX, [False]])
    edges = np.flatnonzero(trained[1:] != trained[:-1])
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def assert_single_turn(family: Family, conversation: Messages, sample: Sample) -> None:
    [(begin, end)] = spans(sample)
    ids = sample.input_ids
    assert ids[:begin].tolist() == family.reference(
        conversation[:-1], add_generation_prompt=True, **family.prompting
    )
    assert family.decode(ids[begin:end]) == family.answer(conversation[-1].content, True)
    assert family.decode(ids[end:]) == family.tail
    assert sample.labels[begin:end].tolist() == ids[begin:end].tolist()


def test_ids_of_alpaca_en_are_those_of_apply_chat_template(
    family: Family, alpaca_en: list[Messages]
) -> None:
    for conversation, sample in zip(alpaca_en, family.encode(alpaca_en), strict=True):
        assert sample.input_ids.tolist() == family.reference(conversation)


def test_ids_of_alpaca_zh_are_those_of_apply_chat_template(
    family: Family, alpaca_zh: list[Messages]
) -> None:
    for conversation, sample in zip(alpaca_zh, family.encode(alpaca_zh), strict=True):
        assert sample.input_ids.tolist() == family.reference(conversation)


@pytest.mark.parametrize("name", HAND_MADE)
def test_ids_of_hand_made_conversations_are_those_of_apply_chat_template(family: Family, name: str) -> None:
    [sample] = family.encode([HAND_MADE[name]])
    assert sample.input_ids.tolist() == family.reference(HAND_MADE[name])


def test_alpaca_en_trains_the_answer_behind_the_inference_prompt(
    family: Family, alpaca_en: list[Messages]
) -> None:
    for conversation, sample in zip(alpaca_en, family.encode(alpaca_en), strict=True):
        assert_single_turn(family, conversation, sample)


def test_alpaca_zh_trains_the_answer_behind_the_inference_prompt(
    family: Family, alpaca_zh: list[Messages]
) -> None:
    for conversation, sample in zip(alpaca_zh, family.encode(alpaca_zh), strict=True):
        assert_single_turn(family, conversation, sample)


@pytest.mark.parametrize("name", HAND_MADE)
def test_every_trained_answer_is_a_span_of_its_own_that_ends_its_turn(family: Family, name: str) -> None:
    conversation = HAND_MADE[name]
    [sample] = family.encode([conversation])
    last = len(conversation) - 1
    expected = [
        family.answer(each.content, index == last)
        for index, each in enumerate(conversation)
        if each.is_target
    ]
    trained = [family.decode(sample.input_ids[begin:end]) for begin, end in spans(sample)]
    assert trained == expected


def test_joined_text_of_a_sample_is_the_text_of_the_template(family: Family) -> None:
    conversations: list[Messages] = list(HAND_MADE.values())
    for conversation, sample in zip(conversations, family.encode(conversations), strict=True):
        assert sample.text == family.tokenizer.apply_chat_template(
            as_dicts(conversation), tokenize=False, return_dict=False
        )


def test_num_targets_counts_answer_tokens_and_one_end_of_turn_each(smollm2_tokenizer: Any) -> None:
    family = Family(smollm2_tokenizer, lambda text, last: text, "\n")
    [sample] = family.encode([TWO_TURNS])
    tokens = [len(smollm2_tokenizer(text)["input_ids"]) for text in ("Eight.", "Six.")]
    assert sample.num_targets == sum(tokens) + 2


def test_encoding_in_a_batch_equals_encoding_alone(family: Family) -> None:
    conversations: list[Messages] = list(HAND_MADE.values())
    for conversation, sample in zip(conversations, family.encode(conversations), strict=True):
        [alone] = family.encode([conversation])
        np.testing.assert_array_equal(sample.input_ids, alone.input_ids)
        np.testing.assert_array_equal(sample.labels, alone.labels)


THOUGHT_EARLIER = [
    user("2+2?"),
    answer("<think>\nTwo and two.\n</think>\n\nFour."),
    user("3+3?"),
    answer("Six."),
]
THOUGHT_LAST = [
    user("2+2?"),
    answer("Four."),
    user("3+3?"),
    answer("<think>\nThree twice.\n</think>\n\nSix."),
]


@pytest.mark.parametrize(
    ("conversation", "expected"),
    [
        pytest.param(THOUGHT_EARLIER, ["Four.<|im_end|>", "Six.<|im_end|>"], id="earlier"),
        pytest.param(
            THOUGHT_LAST,
            ["Four.<|im_end|>", "<think>\nThree twice.\n</think>\n\nSix.<|im_end|>"],
            id="last",
        ),
        pytest.param(
            [user("2+2?"), answer("<think>Two and two.</think>Four.")],
            ["<think>\nTwo and two.\n</think>\n\nFour.<|im_end|>"],
            id="last, without line breaks of its own",
        ),
    ],
)
def test_qwen3_trains_the_reasoning_that_its_template_shows_and_no_other(
    qwen3_tokenizer: Any, conversation: Messages, expected: list[str]
) -> None:
    family = Family(qwen3_tokenizer, lambda text, last: text, "\n")
    [sample] = family.encode([conversation])
    assert sample.input_ids.tolist() == family.reference(conversation)
    assert [family.decode(sample.input_ids[begin:end]) for begin, end in spans(sample)] == expected


def test_empty_thought_of_qwen3_is_trained_or_removed_where_the_config_says_so(
    qwen3_tokenizer: Any,
) -> None:
    answers = {"train": f"{NO_THOUGHT}Six.<|im_end|>", "absent": "Six.<|im_end|>"}
    for empty_thought, last in answers.items():
        template = ChatTemplate(empty_thought=empty_thought).bind(qwen3_tokenizer)
        segments = template.segments(THOUGHT_EARLIER)
        assert [segment.text for segment in segments if segment.is_target] == ["Four.<|im_end|>", last]
        text = "".join(segment.text for segment in segments)
        assert text.count(NO_THOUGHT) == (empty_thought == "train")


def test_llama3_chat_gives_the_official_text_of_alpaca_and_of_hand_made_conversations(
    llama3_tokenizer: Any, alpaca_en: list[Messages]
) -> None:
    ours = ChatTemplate(SOURCES["llama3_chat"]).bind(llama3_tokenizer)
    for conversation in [*HAND_MADE.values(), *alpaca_en[:200]]:
        # The official template opens an answer whether it is asked to or not.
        official = llama3_tokenizer.apply_chat_template(as_dicts(conversation), tokenize=False)
        assert ours.render(conversation, generation=True) == official
        assert ours.render(conversation) + LLAMA3_OPENED == official


def test_llama3_chat_trains_what_the_official_template_trains(llama3_tokenizer: Any) -> None:
    ours = ChatTemplate(SOURCES["llama3_chat"]).bind(llama3_tokenizer)
    official = ChatTemplate().bind(llama3_tokenizer)
    assert ours.end_of_turn == official.end_of_turn == "<|eot_id|>"
    for conversation in HAND_MADE.values():
        [left, right] = [
            encode_conversations([Conversation(conversation)], each, llama3_tokenizer)[0]
            for each in (ours, official)
        ]
        assert isinstance(left, Sample)
        assert isinstance(right, Sample)
        np.testing.assert_array_equal(left.labels, right.labels[: len(left)])
        assert (right.labels[len(left) :] == IGNORE_INDEX).all()


def test_chatml_gives_the_text_of_smollm2_where_a_system_turn_is_given(smollm2_tokenizer: Any) -> None:
    ours = ChatTemplate(SOURCES["chatml"]).bind(smollm2_tokenizer)
    compared = 0
    for conversation in HAND_MADE.values():
        if conversation[0].role != "system":
            continue
        official = smollm2_tokenizer.apply_chat_template(as_dicts(conversation), tokenize=False)
        assert ours.render(conversation) == official
        compared += 1
    assert compared == 3


def test_chatml_gives_the_text_of_qwen3_up_to_the_last_answer(qwen3_tokenizer: Any) -> None:
    """Qwen3 writes an empty thought before the last answer; all else is ChatML."""
    ours = ChatTemplate(SOURCES["chatml"]).bind(qwen3_tokenizer)
    for name, conversation in HAND_MADE.items():
        official = qwen3_tokenizer.apply_chat_template(as_dicts(conversation), tokenize=False)
        assert official.count(NO_THOUGHT) == 1, name
        assert ours.render(conversation) == official.replace(NO_THOUGHT, ""), name


QWEN2_OFFICIAL = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""``chat_template`` of Qwen2-7B-Instruct, as its authors published it."""


@pytest.mark.parametrize("generation", [False, True])
def test_qwen_chat_gives_the_text_of_the_published_qwen2_template(
    qwen3_tokenizer: Any, generation: bool
) -> None:
    ours = ChatTemplate(SOURCES["qwen_chat"]).bind(qwen3_tokenizer)
    for conversation in HAND_MADE.values():
        official = qwen3_tokenizer.apply_chat_template(
            as_dicts(conversation),
            chat_template=QWEN2_OFFICIAL,
            tokenize=False,
            add_generation_prompt=generation,
        )
        assert ours.render(conversation, generation=generation) == official
