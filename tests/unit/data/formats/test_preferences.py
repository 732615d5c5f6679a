"""Pairs: TRL's and LLaMA-Factory's documented forms, and what is refused."""

import json

import pytest

from xft.data import formats
from xft.data.formats.turns_as_text import TurnsAsText
from xft.errors import DataError
from xft.types import IMAGE_PLACE, Message, PreferencePair, Row

ASK = Message("user", "What color is the sky?")
BLUE = Message("assistant", "It is blue.", True)
GREEN = Message("assistant", "It is green.", True)
SYSTEM = Message("system", "Be brief.")


def said(message: Message) -> Row:
    return {"role": message.role, "content": message.content}


def cell(value: object) -> TurnsAsText:
    return TurnsAsText(json.dumps(value))


TRL = [
    # The rows of TRL's page "Dataset formats and types", preference, with explicit and implicit prompt.
    {"prompt": ASK.content, "chosen": BLUE.content, "rejected": GREEN.content},
    {"prompt": [said(ASK)], "chosen": [said(BLUE)], "rejected": [said(GREEN)]},
    {"chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(GREEN)]},
    # What else is found: one turn, a prompt beside whole conversations, null where nothing is.
    {"prompt": ASK.content, "chosen": said(BLUE), "rejected": GREEN.content},
    {"prompt": ASK.content, "chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(GREEN)]},
    {"prompt": [said(ASK)], "chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(GREEN)]},
    # Columns of a table that hold turns: as JSON, or as pandas prints them.
    {"prompt": ASK.content, "chosen": cell([said(BLUE)]), "rejected": TurnsAsText([said(GREEN)])},
    {"prompt": TurnsAsText([said(ASK)]), "chosen": BLUE.content, "rejected": cell(said(GREEN))},
    # ms-swift.
    {"messages": [said(ASK), said(BLUE)], "rejected_response": GREEN.content},
    {"messages": [said(ASK), said(BLUE)], "rejected_response": [said(GREEN)]},
    {
        "prompt": None,
        "chosen": [said(ASK), said(BLUE)],
        "rejected": [said(ASK), said(GREEN)],
        "system": None,
    },
]


@pytest.mark.parametrize("row", TRL)
def test_preference_all_forms_agree(row: Row) -> None:
    assert formats.preference(row) == PreferencePair([ASK], [BLUE], [GREEN])
    assert formats.preference({**row, "system": "Be brief."}) == PreferencePair(
        [SYSTEM, ASK], [BLUE], [GREEN]
    )


def test_the_common_turns_of_two_conversations_are_shown_and_not_trained() -> None:
    before = [SYSTEM, ASK, BLUE, Message("user", "Why?")]
    row = {
        "chosen": [*map(said, before), {"role": "assistant", "content": "Light."}],
        "rejected": [*map(said, before), {"role": "assistant", "content": "Paint."}],
    }
    shown = [SYSTEM, ASK, Message("assistant", "It is blue.", False), Message("user", "Why?")]
    expected = PreferencePair(
        shown, [Message("assistant", "Light.", True)], [Message("assistant", "Paint.", True)]
    )
    assert formats.preference(row) == expected
    assert formats.orpo_dpo_mix_40k({**row, "prompt": "anything", "question": "else"}) == expected


def test_conversations_that_part_early_keep_all_that_follows() -> None:
    row = {
        "chosen": [said(ASK), said(BLUE), said(ASK), said(BLUE)],
        "rejected": [said(ASK), said(GREEN), said(ASK), said(GREEN)],
    }
    assert formats.preference(row) == PreferencePair([ASK], [BLUE, ASK, BLUE], [GREEN, ASK, GREEN])


def test_a_pair_carries_functions() -> None:
    value = formats.preference({**TRL[0], "tools": [{"name": "look"}]})
    assert value.tools == ({"type": "function", "function": {"name": "look"}},)


def test_columns_of_a_pair_can_be_renamed() -> None:
    row = {"q": "What color is the sky?", "a": "It is blue.", "b": "It is green.", "s": "Be brief."}
    value = formats.preference(row, prompt="q", chosen="a", rejected="b", system="s")
    assert value == PreferencePair([SYSTEM, ASK], [BLUE], [GREEN])


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"prompt": "x", "chosen": "a", "rejected": "a"}, "chosen"),
        ({"chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(BLUE)]}, "chosen"),
        ({"chosen": "a", "rejected": "b"}, "chosen"),
        (
            {"chosen": [said(ASK)], "rejected": [said(ASK), said(GREEN)]},
            "chosen",
        ),
        ({"prompt": "x", "chosen": "a"}, "rejected"),
        ({"prompt": "x", "chosen": "a", "rejected": None}, "rejected"),
        ({"prompt": "x", "chosen": "a", "rejected": 3}, "rejected"),
        (
            {"prompt": "x", "chosen": "a", "rejected": [said(ASK)]},
            "rejected",
        ),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "prompt"),
        ({"prompt": [said(BLUE)], "chosen": "a", "rejected": "b"}, "chosen"),
        (
            {"prompt": [{"role": "usr", "content": "x"}], "chosen": "a", "rejected": "b"},
            "prompt[1].role",
        ),
        (
            {"prompt": "Else?", "chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(GREEN)]},
            "prompt",
        ),
        (
            {
                "chosen": [said(ASK), said(BLUE), said(ASK)],
                "rejected": [said(ASK), said(BLUE), said(SYSTEM)],
            },
            "chosen",
        ),
    ],
)
def test_preference_invalid_row_raises(row: Row, key: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.preference(row)
    assert caught.value.key == key


def test_a_sharegpt_pair_may_have_a_system_text_and_earlier_turns() -> None:
    turns = [
        {"from": "human", "value": ASK.content},
        {"from": "gpt", "value": "It is blue."},
        {"from": "human", "value": ASK.content},
    ]
    row = {
        "conversations": turns,
        "chosen": {"from": "gpt", "value": "It is blue."},
        "rejected": "It is green.",
    }
    shown = [SYSTEM, ASK, Message("assistant", "It is blue.", False), ASK]
    assert formats.sharegpt_preference({**row, "system": "Be brief."}) == PreferencePair(
        shown, [BLUE], [GREEN]
    )
    with pytest.raises(DataError) as caught:
        formats.sharegpt_preference({**row, "conversations": turns[:2]})
    assert caught.value.key == "chosen"
    assert caught.value.got == "assistant"


def test_an_empty_system_text_of_intel_orca_is_none() -> None:
    row = {"system": "", "question": ASK.content, "chosen": "It is blue.", "rejected": "It is green."}
    assert formats.intel_orca_dpo(row) == PreferencePair([ASK], [BLUE], [GREEN])


def test_earlier_turns_of_ms_swift_are_the_prompt() -> None:
    turns = [SYSTEM, ASK, BLUE, Message("user", "Why?"), Message("assistant", "Light.", True)]
    pair = formats.preference({"messages": [*map(said, turns)], "rejected_response": "Paint."})
    context = Message("assistant", "It is blue.")
    assert pair == PreferencePair(
        [SYSTEM, ASK, context, turns[3]], [turns[4]], [Message("assistant", "Paint.", True)]
    )


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"messages": [said(ASK)], "rejected_response": "x"}, "messages"),
        ({"messages": [said(BLUE)], "rejected_response": "x"}, "messages"),
        ({"messages": [said(ASK), said(BLUE)], "rejected_response": BLUE.content}, "messages"),
        ({"rejected_response": "x"}, "messages"),
    ],
)
def test_invalid_row_of_ms_swift_raises(row: Row, key: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.preference(row)
    assert caught.value.key == key


def test_alpaca_preference_keeps_the_input() -> None:
    row = {"instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "12", "system": "Be brief."}
    prompt = [SYSTEM, Message("user", "Add.\n1 2")]
    answers = [[Message("assistant", text, True)] for text in ("3", "12")]
    assert formats.alpaca_preference(row) == PreferencePair(prompt, *answers)
    for nothing in ("", None, "<noinput>"):
        assert formats.alpaca_preference(row | {"input": nothing}).prompt[1].content == "Add."


IMAGE_TURN = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "<image>\nWhat?", "chosen": "A cat.", "rejected": "A dog."},
        {"prompt": [IMAGE_TURN], "chosen": [{"role": "assistant", "content": "A cat."}], "rejected": "A dog."},
        {
            "chosen": [IMAGE_TURN, {"role": "assistant", "content": "A cat."}],
            "rejected": [IMAGE_TURN, {"role": "assistant", "content": "A dog."}],
        },
        {
            "prompt": [IMAGE_TURN],
            "chosen": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cat."}],
            "rejected": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A dog."}],
        },
        {
            "messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cat."}],
            "rejected_response": "A dog.",
        },
    ],
)  # fmt: skip
def test_images_belong_to_the_prompt(row: Row) -> None:
    pair = formats.preference({**row, "images": ["a.png"]})
    (question,) = pair.prompt
    assert [image.path for image in question.images] == ["a.png"]
    assert question.content == f"{IMAGE_PLACE}What?"
    assert [turn.content for turn in (*pair.chosen, *pair.rejected)] == ["A cat.", "A dog."]


@pytest.mark.parametrize("prompt", ["What?", "<image> <image>"])
def test_number_of_images_of_a_pair_must_fit(prompt: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.preference(
            {"prompt": prompt, "chosen": "A cat.", "rejected": "A dog.", "images": ["a.png"]}
        )
    assert caught.value.key == "images[1]"


def test_sharegpt_pair_has_images() -> None:
    row = {"conversations": [{"from": "human", "value": "<image>What?"}], "image": "a.png"}
    pair = formats.sharegpt_preference(
        {
            **row,
            "chosen": {"from": "gpt", "value": "A cat."},
            "rejected": {"from": "gpt", "value": "A dog."},
        }
    )
    assert [image.path for image in pair.prompt[0].images] == ["a.png"]
