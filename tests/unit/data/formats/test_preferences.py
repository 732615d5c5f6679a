"""Pairs and single labels: TRL's and LLaMA-Factory's documented forms, and what is refused."""

from typing import Any

import pytest

from xft.data import formats
from xft.errors import DataError
from xft.types import Message, PreferencePair, Row, UnpairedExample

ASK = Message("user", "What color is the sky?")
BLUE = Message("assistant", "It is blue.", True)
GREEN = Message("assistant", "It is green.", True)
SYSTEM = Message("system", "Be brief.")


def said(message: Message) -> Row:
    return {"role": message.role, "content": message.content}


TRL = [
    # The rows of TRL's page "Dataset formats and types", preference, with explicit and implicit prompt.
    {"prompt": ASK.content, "chosen": BLUE.content, "rejected": GREEN.content},
    {"prompt": [said(ASK)], "chosen": [said(BLUE)], "rejected": [said(GREEN)]},
    {"chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(GREEN)]},
    # What else is found: one turn, a prompt beside whole conversations, null where nothing is.
    {"prompt": ASK.content, "chosen": said(BLUE), "rejected": GREEN.content},
    {"prompt": ASK.content, "chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(GREEN)]},
    {"prompt": [said(ASK)], "chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(GREEN)]},
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


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK.content, "completion": "It is blue.", "label": True},
        {"prompt": [said(ASK)], "completion": [said(BLUE)], "label": 1},
        {
            "conversations": [
                {"from": "human", "value": ASK.content},
                {"from": "gpt", "value": "It is blue."},
            ],
            "kto_tag": True,
        },
        {"messages": [said(ASK), said(BLUE)], "label": "true"},
        {"messages": [said(ASK), {**said(BLUE), "weight": 0}], "label": True, "kto_tag": True},
    ],
)
def test_kto_all_forms_agree(row: Row) -> None:
    assert formats.kto(row) == UnpairedExample([ASK], [BLUE], label=True)
    assert formats.kto({**row, "system": "Be brief."}).prompt == [SYSTEM, ASK]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"label": None}, "label"),
        ({"label": "good"}, "label"),
        ({"label": 0.3}, "label"),
        ({"kto_tag": False}, "label"),
        ({"completion": None}, "completion"),
        ({"prompt": None}, "prompt"),
        ({"conversations": [said(ASK), said(BLUE)]}, "completion"),
        (
            {"completion": None, "messages": [said(BLUE), said(ASK)]},
            "messages",
        ),
        ({"completion": None, "messages": [said(BLUE)]}, "messages"),
    ],
)
def test_kto_invalid_row_raises(change: Row, key: str) -> None:
    row: dict[str, Any] = {"prompt": ASK.content, "completion": "It is blue.", "label": True}
    with pytest.raises(DataError) as caught:
        formats.kto({**row, **change})
    assert caught.value.key == key
