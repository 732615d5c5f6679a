"""The keys of turns that are not tracked are all read."""

from xft.data.formats.messages import SHAREGPT, parse_messages
from xft.data.formats.tracked_row import TrackedFields
from xft.data.formats.turn_keys import TURN_KEYS


def test_turn_keys_are_those_that_the_parser_reads() -> None:
    read: set[str] = set()
    for role in ("assistant", "tool"):
        for key in TURN_KEYS - {"role", "from", "content", "value"}:
            turn = TrackedFields({"from": role, "content": "x", "value": None, key: None}, read)
            parse_messages([turn], "turns", SHAREGPT)
    assert read == TURN_KEYS
