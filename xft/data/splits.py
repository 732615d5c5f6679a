"""The validation split: rows are selected by a hash of their content."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xft.data.store.sample_view import SampleView
from xft.data.store.token_store import I64, U64
from xft.errors import DataError

AUTO_FRACTION = 0.05
"""Fraction of the rows that ``val_split='auto'`` selects."""
AUTO_ROWS = 10
"""Rows that it selects at least: the loss of fewer rows is mostly noise."""
AUTO_LARGEST = 5
"""It selects at most one row in five for the sake of ``AUTO_ROWS``."""


def split(rows: npt.NDArray[Any], val: int | float | Literal["auto"], seed: int) -> tuple[I64, I64]:
    """Select the validation rows.

    Each row has a 64-bit number, a hash of its content (or of its ``group_by`` value) and the seed.
    A fraction selects the rows whose number is below that fraction of 2**64: a row stays in its split
    when other rows are added or removed, and the size is exact only on average. A count selects that
    many of the lowest numbers. Rows with equal content, equal tokens or the same group share a number,
    so they are in the same split.

    Args:
        rows: ``(rows,)`` of ``ROW``.
        val: a fraction below 1, a number of rows, or ``auto``: 5 % of the rows, but at least ten, unless that is more
            than a fifth of them.
        seed: selects another split.

    Returns:
        Indices of the training rows and of the validation rows; neither is empty.

    Raises:
        DataError: there are not enough distinct rows for both.
    """
    numbers = _numbers(rows, seed)
    groups, inverse, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    minimum = (val if isinstance(val, int) else 1) + 1
    if len(groups) < 2 or minimum > len(rows):
        raise DataError(
            f"got {len(rows)} rows, {len(groups)} of them distinct; expected at least {minimum}, one of them to "
            "train on. Add rows, or lower data.val_split (data.val_split=None trains without validation)",
            key="data.val_split",
            got=val,
        )
    if isinstance(val, int):
        chosen = _smallest_k(sizes, val)
    else:
        fraction = AUTO_FRACTION if val == "auto" else val
        chosen = groups < np.uint64(min(int(fraction * 2.0**64), 2**64 - 1))
        # At least one group on each side.
        chosen[0], chosen[-1] = True, False
        enough = min(AUTO_ROWS, len(rows) // AUTO_LARGEST)
        if val == "auto" and sizes[chosen].sum() < enough:
            chosen = _smallest_k(sizes, enough)
    is_val = chosen[inverse]
    return np.flatnonzero(~is_val), np.flatnonzero(is_val)


def _smallest_k(sizes: I64, count: int) -> npt.NDArray[np.bool_]:
    """Select the first groups with at most ``count`` rows in total, and at least one group."""
    chosen = np.zeros(len(sizes), dtype=bool)
    total = 0
    for index, size in enumerate(sizes.tolist()):
        if total + size <= count:
            chosen[index] = True
            total += size
    if not total:
        chosen[int(np.argmin(sizes))] = True
    return chosen


def _numbers(rows: npt.NDArray[Any], seed: int) -> U64:
    """Return ``(rows,)`` numbers, equal for rows that must be in the same split."""
    numbers = _splitmix64(rows["group"] ^ _seeded(seed))
    inverses = [
        np.unique(rows[column], return_inverse=True)[1] for column in ("group", "content", "tokens")
    ]
    while True:
        previous = numbers
        for inverse in inverses:
            lowest = np.full(
                int(inverse.max()) + 1 if len(inverse) else 0, np.iinfo(np.uint64).max, np.uint64
            )
            np.minimum.at(lowest, inverse, numbers)
            numbers = lowest[inverse]
        if np.array_equal(previous, numbers):
            return numbers


def _seeded(seed: int) -> U64:
    return _splitmix64(np.array([seed % 2**64], dtype=np.uint64))


def _splitmix64(numbers: U64) -> U64:
    """Hash 64-bit numbers with the finalizer of splitmix64 (Steele, Lea and Flood, 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def first_occurrences(digests: U64) -> I64:
    """Return the index of the first row of each digest, in order."""
    return np.sort(np.unique(digests, return_index=True)[1]).astype(np.int64)


def stable_order(digests: U64, seed: int) -> I64:
    """Return ``(rows,)`` the position of each row in an order set by the digests and the seed."""
    numbers = _splitmix64(digests ^ _seeded(seed))
    positions = np.empty(len(numbers), dtype=np.int64)
    positions[np.argsort(numbers, kind="stable")] = np.arange(len(numbers))
    return positions


def check_split_leakage(train: SampleView, val: SampleView) -> None:
    """Check that no row is in both splits, by its text, its tokens or its group.

    Raises:
        DataError: with the first such row.
    """
    for name in ("tokens", "content", "group"):
        held_out = val.row_field(name)
        leaked = np.flatnonzero(np.isin(held_out, train.row_field(name)))
        if len(leaked):
            raise DataError(
                f"{val.origin_of_row(int(leaked[0]))}: {len(leaked)} of {len(held_out)} validation rows are "
                "in the training split too, this one first. Remove them from one of the two",
                key="data.val_split",
                got=len(leaked),
            )
