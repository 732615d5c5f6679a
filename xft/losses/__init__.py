"""Losses: pure tensor maths, without models, data or configuration."""

from xft.losses.cross_entropy import cross_entropy_sum

__all__ = ["cross_entropy_sum"]
