"""A system text for conversations without one."""

import pytest

from xft.data.formats.system_text import with_system
from xft.types import Conversation, Message, PreferencePair, UnpairedExample

USER, ANSWER, OTHER = Message("user", "Hi"), Message("assistant", "Hello"), Message("assistant", "Bye")
SYSTEM = Message("system", "Be brief.")
GIVEN = Message("system", "Be long.")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([USER, ANSWER], [SYSTEM, USER, ANSWER]),
        ([GIVEN, USER, ANSWER], [GIVEN, USER, ANSWER]),
        (Conversation([USER, ANSWER]), Conversation([SYSTEM, USER, ANSWER])),
        (PreferencePair([USER], [ANSWER], [OTHER]), PreferencePair([SYSTEM, USER], [ANSWER], [OTHER])),
        (UnpairedExample([USER], [ANSWER], True), UnpairedExample([SYSTEM, USER], [ANSWER], True)),
        ("text", "text"),
    ],
)
def test_with_system_adds_a_message_unless_there_is_one(value: object, expected: object) -> None:
    assert with_system(lambda row: value, "Be brief.", {}) == expected
