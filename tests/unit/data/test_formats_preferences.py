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
def test_a_pair_is_the_same_in_every_form(row: Row) -> None:
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
    ("row", "message"),
    [
        ({"prompt": "x", "chosen": "a", "rejected": "a"}, "field chosen: is the same as rejected"),
        ({"chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(BLUE)]}, "nothing is preferred"),
        ({"chosen": "a", "rejected": "b"}, "prompt in a column of its own"),
        (
            {"chosen": [said(ASK)], "rejected": [said(ASK), said(GREEN)]},
            "field chosen: the answer begins with a turn of nobody",
        ),
        ({"prompt": "x", "chosen": "a"}, "field rejected: is missing"),
        ({"prompt": "x", "chosen": "a", "rejected": None}, "field rejected: is null"),
        ({"prompt": "x", "chosen": "a", "rejected": 3}, r"field rejected: got 3 \(int\)"),
        (
            {"prompt": "x", "chosen": "a", "rejected": [said(ASK)]},
            "field rejected: the answer begins with a turn of user",
        ),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, r"field prompt: got 3 \(int\)"),
        ({"prompt": [said(BLUE)], "chosen": "a", "rejected": "b"}, "the turn before is of assistant"),
        (
            {"prompt": [{"role": "usr", "content": "x"}], "chosen": "a", "rejected": "b"},
            r"prompt\[1\].role: got 'usr'",
        ),
        (
            {"prompt": "Else?", "chosen": [said(ASK), said(BLUE)], "rejected": [said(ASK), said(GREEN)]},
            "field prompt: is not what the two answers begin with",
        ),
        (
            {
                "chosen": [said(ASK), said(BLUE), said(ASK)],
                "rejected": [said(ASK), said(BLUE), said(SYSTEM)],
            },
            "the turn before is of assistant",
        ),
    ],
)
def test_what_is_no_pair_is_refused(row: Row, message: str) -> None:
    with pytest.raises(DataError, match=message):
        formats.preference(row)


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
    with pytest.raises(DataError, match="expected of the user or a tool"):
        formats.sharegpt_preference({**row, "conversations": turns[:2]})


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
def test_a_judged_answer_is_the_same_in_every_form(row: Row) -> None:
    assert formats.kto(row) == UnpairedExample([ASK], [BLUE], label=True)
    assert formats.kto({**row, "system": "Be brief."}).prompt == [SYSTEM, ASK]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, r"field label: is null, expected true or false \(here, or in kto_tag\)"),
        ({"label": "good"}, "field label: got 'good'"),
        ({"label": 0.3}, "field label: got 0.3"),
        ({"kto_tag": False}, "field label: got True, and kto_tag says the opposite"),
        ({"completion": None}, "field completion: is null"),
        ({"prompt": None}, "field prompt: is null"),
        ({"conversations": [said(ASK), said(BLUE)]}, "field completion: stands beside conversations"),
        (
            {"completion": None, "messages": [said(BLUE), said(ASK)]},
            "field messages: the turn before is of assistant",
        ),
        ({"completion": None, "messages": [said(BLUE)]}, "field messages: the turn before is of nobody"),
    ],
)
def test_what_is_not_judged_is_refused(change: Row, message: str) -> None:
    row: dict[str, Any] = {"prompt": ASK.content, "completion": "It is blue.", "label": True}
    with pytest.raises(DataError, match=message):
        formats.kto({**row, **change})
