"""Find near duplicates: rows that share most of their token sequences.

MinHash with banding (Broder, "On the resemblance and containment of documents", 1997): two rows agree
in one hash with the probability that equals the Jaccard index of their shingles. Rows that agree in
all hashes of a band are candidates. A candidate counts if the index of the true sets is large enough.

Why not ``datasketch``: it hashes one row at a time from Python objects. This module works on the token
ids of the store, in NumPy blocks and threads, excludes shingles that a template puts into most rows,
and needs no dependency.
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
"""Jaccard index of the shingles from which two rows are near duplicates."""
_BANDS, _IN_BAND = 4, 4
_MIN_AGREEMENT = 10
"""Hashes of the 16 that must agree before the true sets are compared. Of rows with a Jaccard index of
0.8, 3 % agree in fewer."""
_MAX_CANDIDATES = 20_000
"""Maximum number of pairs whose true sets are compared. The index of further pairs is estimated."""
_BLOCK = 4096
_FREQUENT_BITS = 20
_ID = np.uint32((1 << 31) - 1)


def near_duplicates(store: TokenStore) -> list[tuple[int, int, float]]:
    """Find rows that nearly repeat an earlier one.

    Only the first sample of each row is compared, and exact duplicates are skipped. Shingles in more
    than a quarter of all rows (headers, a common system turn) come from the template and are ignored.

    Returns:
        Tuples ``(earlier row, later row, jaccard)``, each later row once.
    """
    rows = first_occurrences(store.rows["tokens"])
    if len(rows) < 2:
        return []
    frequent = _frequent_shingles(store, rows)
    blocks = [rows[begin : begin + _BLOCK] for begin in range(0, len(rows), _BLOCK)]
    # NumPy releases the GIL, so threads suffice.
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda block: _signatures(store, block, frequent), blocks))
    signatures, counts = (np.concatenate(arrays) for arrays in zip(*results, strict=True))
    duplicates: dict[int, tuple[int, float]] = {}
    compared = 0
    for band in range(_BANDS):
        for earlier, later, agreement in _candidates(signatures, counts, band):
            if later in duplicates:
                continue
            jaccard = agreement / (_BANDS * _IN_BAND)
            if compared < _MAX_CANDIDATES:
                compared += 1
                jaccard = _jaccard(store, int(rows[earlier]), int(rows[later]), frequent)
            if jaccard >= THRESHOLD:
                duplicates[later] = (earlier, jaccard)
    return [
        (int(rows[earlier]), int(rows[later]), jaccard)
        for later, (earlier, jaccard) in sorted(duplicates.items())
    ]


def _candidates(signatures: U64, counts: I64, band: int) -> Iterator[tuple[int, int, int]]:
    """Yield pairs of rows that agree in a whole band, with the number of hashes that agree."""
    part = signatures[:, band * _IN_BAND : (band + 1) * _IN_BAND]
    keys = np.zeros(len(part), dtype=np.uint64)
    for hashes in part.T:
        keys = keys * np.uint64(0x100000001B3) + hashes
    order = np.argsort(keys, kind="stable")
    before, after = order[:-1], order[1:]
    smaller, larger = np.minimum(counts[before], counts[after]), np.maximum(counts[before], counts[after])
    # The index is at most the ratio of the sizes.
    likely = (keys[before] == keys[after]) & (smaller >= THRESHOLD * larger) & (larger > 0)
    before, after = before[likely], after[likely]
    agreement = (signatures[before] == signatures[after]).sum(axis=1)
    enough = agreement >= _MIN_AGREEMENT
    yield from zip(before[enough].tolist(), after[enough].tolist(), agreement[enough].tolist(), strict=True)


def _shingles(store: TokenStore, rows: I64) -> tuple[U64, I64]:
    """Hash all runs of ``SHINGLE`` tokens in the first sample of each row; return hashes and their rows."""
    first = store.first[rows]
    begins, lengths = store.begins[first], store.samples["length"][first].astype(np.int64)
    counts = np.maximum(lengths - SHINGLE + 1, 0)
    owner = np.repeat(np.arange(len(rows)), counts)
    steps = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    if not len(steps):
        return np.empty(0, np.uint64), owner
    # The rows of a block are mostly adjacent in the store, so it is read in one piece.
    low, high = int(begins.min()), int((begins + lengths).max())
    ids = (np.asarray(store.tokens[low:high]) & _ID).astype(np.uint64)
    rolled = np.zeros(len(ids) - SHINGLE + 1, dtype=np.uint64)
    for offset in range(SHINGLE):
        rolled = rolled * np.uint64(0x100000001B3) + ids[offset : offset + len(rolled)]
    hashes = rolled[np.repeat(begins - low, counts) + steps] * np.uint64(0x9E3779B97F4A7C15)
    return hashes ^ (hashes >> np.uint64(29)), owner


def _frequent_shingles(store: TokenStore, rows: I64) -> npt.NDArray[np.bool_]:
    """Mark shingles, by the high bits of their hashes, that are in more than a quarter of the rows."""
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), 2000)).astype(np.int64)]
    counts = np.zeros(1 << _FREQUENT_BITS, dtype=np.int32)
    for row in sample:
        hashes, _ = _shingles(store, np.array([row]))
        counts[np.unique(hashes >> np.uint64(64 - _FREQUENT_BITS))] += 1
    return counts > max(3, len(sample) // 4)


def _signatures(store: TokenStore, rows: I64, frequent: npt.NDArray[np.bool_]) -> tuple[U64, I64]:
    """Return ``(rows, bands * in_band)`` minimum of each hash over the shingles of a row, and ``(rows,)``
    number of shingles."""
    hashes, owner = _shingles(store, rows)
    keep = ~frequent[hashes >> np.uint64(64 - _FREQUENT_BITS)]
    hashes, owner = hashes[keep], owner[keep]
    out = np.zeros((len(rows), _BANDS * _IN_BAND), dtype=np.uint64)
    counts = np.bincount(owner, minlength=len(rows))
    present, begins = np.unique(owner, return_index=True)
    if not len(present):
        return out, counts
    for column in range(out.shape[1]):
        salt = np.uint64(0xA24BAED4963EE407 * (column + 1) & (2**64 - 1))
        salted = (hashes ^ salt) * np.uint64(0x9FB21C651E98DF25)
        out[present, column] = np.minimum.reduceat(salted ^ (salted >> np.uint64(32)), begins)
    return out, counts


def _jaccard(store: TokenStore, left: int, right: int, frequent: npt.NDArray[np.bool_]) -> float:
    """Compute the Jaccard index of the shingles of two rows."""

    def unique_shingles(row: int) -> U64:
        hashes, _ = _shingles(store, np.array([row]))
        return np.unique(hashes[~frequent[hashes >> np.uint64(64 - _FREQUENT_BITS)]])

    one, two = unique_shingles(left), unique_shingles(right)
    common = len(np.intersect1d(one, two, assume_unique=True))
    return common / max(len(one) + len(two) - common, 1)
