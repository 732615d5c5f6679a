"""Near duplicates: rows that share most of their token sequences.

MinHash (Broder, "On the resemblance and containment of documents", 1997): two rows agree in one
hash as often as their sets of shingles overlap. Rows that agree in a whole band of hashes are
candidates, and a candidate counts when the overlap of its true sets is large enough.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from xft.data.splits import first_occurrences
from xft.data.store.token_store import I64, U64, TokenStore

SHINGLE = 5
"""Tokens in a shingle."""
THRESHOLD = 0.8
"""The share of common shingles (Jaccard) from which two rows are near duplicates."""
_BANDS, _IN_BAND = 4, 4
_MIN_AGREEMENT = 10
"""Hashes of the 16 that must agree before the true sets are compared. Of rows that share 80 % of their
shingles, 3 % agree in fewer."""
_MAX_CANDIDATES = 20_000
"""Pairs whose true sets are compared. Of further ones the share is estimated from their hashes."""
_BLOCK = 4096
_POPULAR_BITS = 20
_ID = np.uint32((1 << 31) - 1)


def near_duplicates(store: TokenStore) -> list[tuple[int, int, float]]:
    """Find rows that nearly repeat an earlier one.

    Of each row its first sample is looked at. Exact duplicates are left out. What stands in more
    than a quarter of all rows (headers, a common system turn) is what a template says, not what
    a row says, and is left out of the comparison.

    Returns:
        Pairs ``(earlier row, later row, share of common shingles)``, each later row once.
    """
    rows = first_occurrences(store.rows["tokens"])
    if len(rows) < 2:
        return []
    popular = _frequent_shingles(store, rows)
    blocks = [rows[begin : begin + _BLOCK] for begin in range(0, len(rows), _BLOCK)]
    # NumPy lets go of the interpreter while it works, so threads are enough.
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda each: _signatures(store, each, popular), blocks))
    signatures, counts = (np.concatenate(each) for each in zip(*made, strict=True))
    found: dict[int, tuple[int, float]] = {}
    compared = 0
    for band in range(_BANDS):
        for earlier, later, agreement in _candidates(signatures, counts, band):
            if later in found:
                continue
            share = agreement / (_BANDS * _IN_BAND)
            if compared < _MAX_CANDIDATES:
                compared += 1
                share = _overlap(store, int(rows[earlier]), int(rows[later]), popular)
            if share >= THRESHOLD:
                found[later] = (earlier, share)
    return [
        (int(rows[earlier]), int(rows[later]), share) for later, (earlier, share) in sorted(found.items())
    ]


def _candidates(signatures: U64, counts: I64, band: int) -> Iterator[tuple[int, int, int]]:
    """Neighbours among the rows that agree in a whole band, and in how many hashes they agree."""
    part = signatures[:, band * _IN_BAND : (band + 1) * _IN_BAND]
    keys = np.zeros(len(part), dtype=np.uint64)
    for each in part.T:
        keys = keys * np.uint64(0x100000001B3) + each
    order = np.argsort(keys, kind="stable")
    before, after = order[:-1], order[1:]
    smaller, larger = np.minimum(counts[before], counts[after]), np.maximum(counts[before], counts[after])
    # A set cannot share more of a larger one than it has.
    likely = (keys[before] == keys[after]) & (smaller >= THRESHOLD * larger) & (larger > 0)
    before, after = before[likely], after[likely]
    agreement = (signatures[before] == signatures[after]).sum(axis=1)
    enough = agreement >= _MIN_AGREEMENT
    yield from zip(before[enough].tolist(), after[enough].tolist(), agreement[enough].tolist(), strict=True)


def _shingles(store: TokenStore, rows: I64) -> tuple[U64, I64]:
    """Hashes of all runs of ``SHINGLE`` tokens in the first sample of each row, and its row."""
    first = store.first[rows]
    begins, lengths = store.begins[first], store.samples["length"][first].astype(np.int64)
    counts = np.maximum(lengths - SHINGLE + 1, 0)
    owner = np.repeat(np.arange(len(rows)), counts)
    steps = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    if not len(steps):
        return np.empty(0, np.uint64), owner
    # Rows of a block mostly stand behind one another in the store: it is read in one piece.
    low, high = int(begins.min()), int((begins + lengths).max())
    ids = (np.asarray(store.tokens[low:high]) & _ID).astype(np.uint64)
    rolled = np.zeros(len(ids) - SHINGLE + 1, dtype=np.uint64)
    for each in range(SHINGLE):
        rolled = rolled * np.uint64(0x100000001B3) + ids[each : each + len(rolled)]
    hashes = rolled[np.repeat(begins - low, counts) + steps] * np.uint64(0x9E3779B97F4A7C15)
    return hashes ^ (hashes >> np.uint64(29)), owner


def _frequent_shingles(store: TokenStore, rows: I64) -> npt.NDArray[np.bool_]:
    """Which shingles (by the high bits of their hashes) stand in more than a quarter of the rows."""
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), 2000)).astype(np.int64)]
    counts = np.zeros(1 << _POPULAR_BITS, dtype=np.int32)
    for row in sample:
        hashes, _ = _shingles(store, np.array([row]))
        counts[np.unique(hashes >> np.uint64(64 - _POPULAR_BITS))] += 1
    return counts > max(3, len(sample) // 4)


def _signatures(store: TokenStore, rows: I64, popular: npt.NDArray[np.bool_]) -> tuple[U64, I64]:
    """``(rows, bands * in_band)`` the least of each hash over the shingles of a row, and ``(rows,)``
    how many shingles it has."""
    hashes, owner = _shingles(store, rows)
    keep = ~popular[hashes >> np.uint64(64 - _POPULAR_BITS)]
    hashes, owner = hashes[keep], owner[keep]
    out = np.zeros((len(rows), _BANDS * _IN_BAND), dtype=np.uint64)
    counts = np.bincount(owner, minlength=len(rows))
    present, begins = np.unique(owner, return_index=True)
    if not len(present):
        return out, counts
    for each in range(out.shape[1]):
        salt = np.uint64(0xA24BAED4963EE407 * (each + 1) & (2**64 - 1))
        salted = (hashes ^ salt) * np.uint64(0x9FB21C651E98DF25)
        out[present, each] = np.minimum.reduceat(salted ^ (salted >> np.uint64(32)), begins)
    return out, counts


def _overlap(store: TokenStore, left: int, right: int, popular: npt.NDArray[np.bool_]) -> float:
    """The Jaccard index of the shingles of two rows."""

    def own(row: int) -> U64:
        hashes, _ = _shingles(store, np.array([row]))
        return np.unique(hashes[~popular[hashes >> np.uint64(64 - _POPULAR_BITS)]])

    one, two = own(left), own(right)
    common = len(np.intersect1d(one, two, assume_unique=True))
    return common / max(len(one) + len(two) - common, 1)
