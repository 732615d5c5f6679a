"""Pack whole samples into sequences of a maximum length.

Best-fit decreasing: take the longest sample first, and put it into the fullest packed sequence that still has
space (Johnson, "Near-optimal bin packing algorithms", 1973: at most 11/9 of the optimal number of
sequences, plus a constant). No sample is split and none is lost. Samples of 7, 5, 3, 3 and 2 tokens with
``pack_length=10`` become::

    packed = [[0, 2], [1, 3, 4]]  # 7 + 3 and 5 + 3 + 2 tokens
    packing_efficiency = (10 + 10) / (2 * 10) = 1.0
"""

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], pack_length: int, order: Sequence[int] | None = None) -> list[list[int]]:
    """Pack samples into sequences.

    Args:
        lengths: number of tokens of each sample, at most ``pack_length``.
        pack_length: maximum number of tokens of a packed sequence.
        order: order in which samples of equal length are packed, default as given. Shuffling it
            changes which samples are packed together, and never the number of packed sequences.

    Returns:
        The sample indices of each packed sequence.

    Raises:
        ValueError: a sample is longer than ``pack_length``.
    """
    indices = list(order) if order is not None else list(range(len(lengths)))
    indices.sort(key=lambda index: -lengths[index])
    if indices and lengths[indices[0]] > pack_length:
        raise ValueError(f"a sample of {lengths[indices[0]]} tokens does not fit into {pack_length}")
    packed: list[list[int]] = []
    # Indices of packed sequences by the space left in them, and the sorted list of the values that occur.
    packed_by_space: dict[int, list[int]] = {}
    spaces: list[int] = []
    for index in indices:
        length = lengths[index]
        best = bisect_left(spaces, length)
        if best < len(spaces):
            space = spaces[best]
            target = packed_by_space[space].pop()
            if not packed_by_space[space]:
                del packed_by_space[space]
                del spaces[best]
            packed[target].append(index)
        else:
            space, target = pack_length, len(packed)
            packed.append([index])
        left = space - length
        if left not in packed_by_space:
            packed_by_space[left] = []
            insort(spaces, left)
        packed_by_space[left].append(target)
    return packed


def packing_efficiency(lengths: Sequence[int], packed: Sequence[Sequence[int]], pack_length: int) -> float:
    """Return the fraction of the positions in packed sequences that hold a token."""
    if not packed:
        return 0.0
    return sum(lengths[index] for indices in packed for index in indices) / (len(packed) * pack_length)


def packing_stats(
    lengths: Sequence[int], packed: Sequence[Sequence[int]], pack_length: int
) -> dict[str, float]:
    """Return the packing statistics of the data report.

    ``capacity`` is the pack length, ``rows`` the number of packed sequences, ``fill`` the packing efficiency.
    """
    return {
        "capacity": pack_length,
        "rows": len(packed),
        "fill": round(packing_efficiency(lengths, packed, pack_length), 4),
    }
