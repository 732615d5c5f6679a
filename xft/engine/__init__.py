"""The engine: one place puts everything together, trains it, and keeps it."""

from xft.engine import hooks, loggers, optimizers, strategies

__all__ = ["hooks", "loggers", "optimizers", "strategies"]
