"""Keys that exclude a turn from the loss, in the spellings of other frameworks."""

from typing import Any

import pytest

from xft.data import formats
from xft.data.formats.loss_flags import loss_flag
from xft.data.formats.turn_keys import LOSS_FLAG_KEYS, REFUSED_KEYS
from xft.errors import DataError
from xft.types import Row


@pytest.mark.parametrize("key", LOSS_FLAG_KEYS)
@pytest.mark.parametrize(
    ("value", "is_target"),
    [
        (0, False),
        (1, True),
        (False, False),
        (True, True),
        (0.0, False),
        ("false", False),
        ("False", False),
        ("0.0", False),
        ("no", False),
        ("True", True),
        (" 1.0 ", True),
        (None, True),
    ],
)
def test_loss_flag_values(key: str, value: Any, is_target: bool) -> None:
    assert loss_flag({key: value}, "messages[2]") is is_target
    assert loss_flag({"masked": value}, "messages[2]") is (value is None or not is_target)


@pytest.mark.parametrize(
    "flag", [{"loss_weight": 0.0}, {"loss": False}, {"training": False}, {"masked": True}]
)
@pytest.mark.parametrize(
    ("function", "column", "role", "content"),
    [
        (formats.openai, "messages", "role", "content"),
        (formats.sharegpt, "conversations", "from", "value"),
        (formats.xtuner, "conversation", "", ""),
    ],
)
def test_masked_turn_of_another_framework_is_no_target(
    flag: Row, function: Any, column: str, role: str, content: str
) -> None:
    if role:
        turns = [{role: "user", content: "Hi"}, {role: "assistant", content: "Yes", **flag}]
    else:
        turns = [{"input": "Hi", "output": "Yes", **flag}]
    assert [turn.is_target for turn in function({column: turns})] == [False, False]


@pytest.mark.parametrize(
    ("turn", "key"),
    [
        ({"weight": 0.5}, "messages[2].weight"),
        ({"loss": "maybe"}, "messages[2].loss"),
        ({"train": []}, "messages[2].train"),
        ({"weight": 0, "loss": True}, "messages[2]"),
        ({"masked": True, "loss": True}, "messages[2]"),
        (
            {"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": False}]},
            "messages[2].train_detail",
        ),
        ({"loss_mask": 0}, "messages[2].loss_mask"),
        ({"loss_scale": 0.3}, "messages[2].loss_scale"),
    ],
)
def test_loss_flag_not_supported_raises(turn: Row, key: str) -> None:
    with pytest.raises(DataError) as caught:
        loss_flag(turn, "messages[2]")
    assert caught.value.key == key


@pytest.mark.parametrize("key", REFUSED_KEYS)
def test_refused_key_without_value_is_ignored(key: str) -> None:
    assert loss_flag({key: None}, "messages[2]")
