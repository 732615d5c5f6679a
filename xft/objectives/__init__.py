"""Objectives: what a model is trained to do, each a small unit.

An objective takes a model and a batch and returns a ``LossOutput``: the loss summed over the
targets, and how many targets there are.
"""

from xft.objectives.next_token import next_token

__all__ = ["next_token"]
