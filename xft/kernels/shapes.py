"""Shapes of matrix products."""

MULTIPLE = 16
"""Number of tokens to which flat batches, attention blocks and the last chunk before a head are padded.

Why: oneDNN compiles a program for each new shape of a product, which takes 0.3 ms, and caches it in half a megabyte.
Padding leaves a few shapes for samples of any length, and memory freed by one step fits the next one.
"""


def round_up(count: int) -> int:
    """Round up to a multiple of :data:`MULTIPLE`."""
    return -(-count // MULTIPLE) * MULTIPLE
