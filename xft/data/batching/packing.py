"""Pack whole samples into rows of a maximum length.

Best-fit decreasing: take the longest sample first, and put it into the fullest row that still has
space (Johnson, "Near-optimal bin packing algorithms", 1973: at most 11/9 of the optimal number of
rows, plus a constant). No sample is split and none is lost. Samples of 7, 5, 3, 3 and 2 tokens with
``max_seq_len=10`` become::

    rows = [[0, 2], [1, 3, 4]]  # 7 + 3 and 5 + 3 + 2 tokens
    packing_efficiency = (10 + 10) / (2 * 10) = 1.0
"""

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], max_seq_len: int, order: Sequence[int] | None = None) -> list[list[int]]:
    """Pack samples into rows.

    Args:
        lengths: tokens of each sample, at most ``max_seq_len``.
        max_seq_len: maximum tokens of a row.
        order: order in which samples of equal length are placed, default as given. Shuffling it
            changes which samples share a row, and never the number of rows.

    Returns:
        Rows of sample indices.

    Raises:
        ValueError: a sample is longer than ``max_seq_len``.
    """
    indices = list(order) if order is not None else list(range(len(lengths)))
    indices.sort(key=lambda index: -lengths[index])
    if indices and lengths[indices[0]] > max_seq_len:
        raise ValueError(f"a sample of {lengths[indices[0]]} tokens does not fit into {max_seq_len}")
    rows: list[list[int]] = []
    # Rows by the space left in them, and the sorted list of the values that occur.
    rows_by_space: dict[int, list[int]] = {}
    spaces: list[int] = []
    for index in indices:
        length = lengths[index]
        best = bisect_left(spaces, length)
        if best < len(spaces):
            space = spaces[best]
            row = rows_by_space[space].pop()
            if not rows_by_space[space]:
                del rows_by_space[space]
                del spaces[best]
            rows[row].append(index)
        else:
            space, row = max_seq_len, len(rows)
            rows.append([index])
        left = space - length
        if left not in rows_by_space:
            rows_by_space[left] = []
            insort(spaces, left)
        rows_by_space[left].append(row)
    return rows


def packing_efficiency(lengths: Sequence[int], rows: Sequence[Sequence[int]], max_seq_len: int) -> float:
    """Return the fraction of the positions in ``rows`` that hold a token."""
    if not rows:
        return 0.0
    return sum(lengths[index] for row in rows for index in row) / (len(rows) * max_seq_len)


def packing_stats(
    lengths: Sequence[int], rows: Sequence[Sequence[int]], max_seq_len: int
) -> dict[str, float]:
    """Return the packing figures of the data report: ``capacity`` in tokens, ``rows``, ``fill`` (a fraction)."""
    return {
        "capacity": max_seq_len,
        "rows": len(rows),
        "fill": round(packing_efficiency(lengths, rows, max_seq_len), 4),
    }
