"""Ranges of the numbers of a config, in the vocabulary of annotated-types.

An annotation such as ``Count | None`` is read by :mod:`xft.config.signatures`: ``xft check`` rejects a value outside of
the range before anything is loaded. All ranges are finite, which rejects typing errors such as ``1e308`` as well.
"""

from typing import Annotated

from annotated_types import Interval

_MANY = 10**9

Count = Annotated[int, Interval(ge=1, le=_MANY)]
"""Number of steps, rows, tokens or processes."""

CountOrZero = Annotated[int, Interval(ge=0, le=_MANY)]
"""A number that may be 0."""

Seed = Annotated[int, Interval(ge=0, lt=2**32)]
"""Seed, as NumPy accepts it."""

Positive = Annotated[float, Interval(gt=0, le=_MANY)]
"""Factor or weight that must not be 0."""

NonNegative = Annotated[float, Interval(ge=0, le=_MANY)]
"""Factor or weight; 0 turns something off."""

Real = Annotated[float, Interval(ge=-_MANY, le=_MANY)]
"""Number of either sign."""

Fraction = Annotated[float, Interval(ge=0, le=1)]
"""Fraction, both ends included."""

Probability = Annotated[float, Interval(ge=0, lt=1)]
"""Probability, decay rate or fraction that must leave a remainder."""

Minutes = Annotated[float, Interval(gt=0, le=525_600)]
"""Time limit of at most a year."""

LabelSmoothing = Annotated[float, Interval(ge=0, lt=0.5)]
"""Fraction of labels that are swapped; at one half the labels mean nothing."""
