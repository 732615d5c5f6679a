"""Optimizers, learning-rate schedulers and parameter groups."""

from xft.optim import optimizers

__all__ = ["optimizers"]
