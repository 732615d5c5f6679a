"""Read the key of a turn that says whether the turn is in the loss, in the spellings of other frameworks."""

from typing import Any

from xft.data.formats.getters import field_error, parse_bool
from xft.data.formats.turn_keys import INVERTED_FLAG_KEYS, LOSS_FLAG_KEYS, REFUSED_KEYS
from xft.errors import short_repr

_KEYS = frozenset((*LOSS_FLAG_KEYS, *INVERTED_FLAG_KEYS, *REFUSED_KEYS))


def loss_flag(turn: dict[str, Any], path: str) -> bool:
    """Return whether a turn may be a target; true without any of the keys.

    Raises:
        DataError: a value is neither true nor false, two keys contradict each other, or the key is not supported.
    """
    keys = dict.keys(turn)
    if _KEYS.isdisjoint(keys):
        return True
    for key, fix in REFUSED_KEYS.items():
        if turn.get(key) not in (None, [], ""):
            got = f"got {short_repr(turn[key])}"
            raise field_error(f"{path}.{key}", got, "a turn without this key", turn[key], fix)
    flags = {
        key: parse_bool(turn[key], f"{path}.{key}") for key in LOSS_FLAG_KEYS if turn.get(key) is not None
    }
    for key in INVERTED_FLAG_KEYS:
        if turn.get(key) is not None:
            flags[key] = not parse_bool(turn[key], f"{path}.{key}")
    if len(set(flags.values())) > 1:
        raise field_error(path, f"got {flags}", "one of these, or equal values", flags)
    return all(flags.values())
