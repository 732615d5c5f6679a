"""Packing: whole samples side by side in rows of a given capacity.

Best-fit decreasing: the longest sample first, each into the fullest row that still has room
(Johnson, "Near-optimal bin packing algorithms", 1973: at most 11/9 of the best number of rows,
plus a constant). No sample is split and none is lost.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], max_seq_len: int, order: Sequence[int] | None = None) -> list[list[int]]:
    """Pack samples into rows.

    Args:
        lengths: tokens of each sample, none longer than ``max_seq_len``.
        capacity: tokens that a row can hold.
        order: the order in which samples of equal length are taken; theirs by default. Shuffling
            it changes who shares a row with whom, and never the number of rows.

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
    # Rows by the room that they have left, and the sorted list of rooms that occur.
    by_room: dict[int, list[int]] = {}
    rooms: list[int] = []
    for index in indices:
        need = lengths[index]
        at = bisect_left(rooms, need)
        if at < len(rooms):
            room = rooms[at]
            row = by_room[room].pop()
            if not by_room[room]:
                del by_room[room]
                del rooms[at]
            rows[row].append(index)
        else:
            room, row = max_seq_len, len(rows)
            rows.append([index])
        left = room - need
        if left not in by_room:
            by_room[left] = []
            insort(rooms, left)
        by_room[left].append(row)
    return rows


def packing_efficiency(lengths: Sequence[int], rows: Sequence[Sequence[int]], max_seq_len: int) -> float:
    """The share of all places in ``rows`` that a token stands in."""
    if not rows:
        return 0.0
    return sum(lengths[index] for row in rows for index in row) / (len(rows) * max_seq_len)


def packing_stats(
    lengths: Sequence[int], rows: Sequence[Sequence[int]], max_seq_len: int
) -> dict[str, float]:
    """What a report says of packing: ``max_seq_len`` in tokens, ``rows``, and ``packing_efficiency``, a share."""
    return {
        "capacity": max_seq_len,
        "rows": len(rows),
        "fill": round(packing_efficiency(lengths, rows, max_seq_len), 4),
    }
