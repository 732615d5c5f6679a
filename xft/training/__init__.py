"""Training: set-up, the training loop, hooks, and the dry run."""

from xft.training import hooks

__all__ = ["hooks"]
