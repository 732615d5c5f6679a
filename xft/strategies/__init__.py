"""Strategies: device placement, gradient reduction and optimizer state of a run.

They derive from MMEngine's ``BaseStrategy``, whose runner drives them. MMEngine's own strategies are not used: they
require CUDA, average gradients where sums are needed, unpickle checkpoints, and its DeepSpeed strategy cannot be
imported with current DeepSpeed releases.
"""

from xft.strategies.batching import Portions
from xft.strategies.ddp import DDP
from xft.strategies.deepspeed.config import read_option
from xft.strategies.deepspeed.strategy import DeepSpeed
from xft.strategies.single_device import Autocast, SingleDevice

__all__ = ["DDP", "Autocast", "DeepSpeed", "Portions", "SingleDevice", "read_option"]
