"""What the shapes of products have in common from step to step."""

MULTIPLE = 16
"""Of this many tokens are a flat batch, the queries of a block of attention and the last chunk before a head; what is
missing is filled up, to no effect. For each new shape of a product oneDNN makes a program, which takes 0.3 ms, and
keeps half a megabyte of it; with this there are a few shapes, whatever the lengths of samples, and what a
step frees fits the next one."""


def whole(count: int) -> int:
    """The next multiple."""
    return -(-count // MULTIPLE) * MULTIPLE
