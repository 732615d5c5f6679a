"""The validation split: which rows are parted off, as a function of what they say."""

from typing import Any

import numpy as np
import numpy.typing as npt

from xft.data.store.token_store import I64, U64
from xft.errors import DataError


def split(rows: npt.NDArray[Any], val: int | float, seed: int) -> tuple[I64, I64]:
    """Part off the validation rows.

    Each row has a number that follows from its content (or from the value of ``group_by``) and
    the seed. A share takes the rows whose number lies in the lowest share of all numbers: a row
    so stays in its split whatever other rows come or go, and the size is that share on average. A
    count takes that many of the lowest.

    Rows that say the same, that become the same tokens, or that share a group are never parted.

    Args:
        rows: ``(rows,)`` of ``ROW``.
        val: a share below 1, or a number of rows.
        seed: chooses another split.

    Returns:
        Indices of the rows to train on, and of those to validate on; neither is empty.

    Raises:
        DataError: there are not enough different rows for both.
    """
    numbers = _numbers(rows, seed)
    groups, inverse, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    wanted = val if isinstance(val, int) else 1
    if len(groups) < 2 or wanted >= len(rows):
        raise DataError(
            f"got {len(rows)} rows, {len(groups)} of them different, expected at least {wanted + 1}: "
            f"{wanted} to validate on and one to train on; add rows, or lower data.val_split "
            "(data.val_split=None trains without validation)"
        )
    if isinstance(val, int):
        chosen = _smallest_k(sizes, val)
    else:
        chosen = groups < np.uint64(min(int(val * 2.0**64), 2**64 - 1))
        # At least one group on each side.
        chosen[0], chosen[-1] = True, False
    mine = chosen[inverse]
    return np.flatnonzero(~mine), np.flatnonzero(mine)


def _smallest_k(sizes: I64, wanted: int) -> npt.NDArray[np.bool_]:
    """The lowest groups that have ``wanted`` rows together. One that would go beyond the wish is
    left for training."""
    chosen = np.zeros(len(sizes), dtype=bool)
    taken = 0
    for index, size in enumerate(sizes.tolist()):
        if taken + size <= wanted:
            chosen[index] = True
            taken += size
    if not taken:
        chosen[int(np.argmin(sizes))] = True
    return chosen


def _numbers(rows: npt.NDArray[Any], seed: int) -> U64:
    """``(rows,)`` the number of each row, the same for rows that must not be parted."""
    numbers = _splitmix64(rows["group"] ^ _seeded(seed))
    inverses = [np.unique(rows[each], return_inverse=True)[1] for each in ("group", "content", "tokens")]
    while True:
        before = numbers
        for inverse in inverses:
            least = np.full(
                int(inverse.max()) + 1 if len(inverse) else 0, np.iinfo(np.uint64).max, np.uint64
            )
            np.minimum.at(least, inverse, numbers)
            numbers = least[inverse]
        if np.array_equal(before, numbers):
            return numbers


def _seeded(seed: int) -> U64:
    return _splitmix64(np.array([seed % 2**64], dtype=np.uint64))


def _splitmix64(numbers: U64) -> U64:
    """Spread numbers evenly (the finaliser of splitmix64; Steele, Lea and Flood, 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def first_occurrences(digests: U64) -> I64:
    """The index of the first of each digest, in order: rows without their exact duplicates."""
    return np.sort(np.unique(digests, return_index=True)[1]).astype(np.int64)


def stable_order(digests: U64, seed: int) -> I64:
    """``(rows,)`` the place of each row in an order that follows from the digests and the seed."""
    numbers = _splitmix64(digests ^ _seeded(seed))
    places = np.empty(len(numbers), dtype=np.int64)
    places[np.argsort(numbers, kind="stable")] = np.arange(len(numbers))
    return places
