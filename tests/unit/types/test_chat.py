import dataclasses

import pytest

from xft.types import Message, Segment


@pytest.mark.parametrize("value", [Message("user", "Hi"), Segment("Hi", False)])
def test_message_and_segment_are_frozen(value: Message | Segment) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.is_target = True  # type: ignore[misc]


def test_message_by_default_is_no_target() -> None:
    assert Message("assistant", "Hello").is_target is False
