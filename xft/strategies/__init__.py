"""Strategies: device placement, gradient reduction and optimizer state of a run.

They derive from MMEngine's ``BaseStrategy``, whose runner drives them. MMEngine's own strategies are not used: they
require CUDA, average gradients where sums are needed, unpickle checkpoints, and its DeepSpeed strategy cannot be
imported with current DeepSpeed releases.
"""

from xft.strategies.base import Strategy
from xft.strategies.batching import Batching
from xft.strategies.ddp import DDP, DDPConfig, config_for_launcher
from xft.strategies.deepspeed.strategy import DeepSpeed, DeepSpeedConfig
from xft.strategies.fsdp2 import FSDP2, FSDP2Config
from xft.strategies.single_device import SingleDevice
from xft.strategies.strategy_config import SingleDeviceConfig, StrategyConfig

__all__ = [
    "DDP",
    "FSDP2",
    "Batching",
    "DDPConfig",
    "DeepSpeed",
    "DeepSpeedConfig",
    "FSDP2Config",
    "SingleDevice",
    "SingleDeviceConfig",
    "Strategy",
    "StrategyConfig",
    "config_for_launcher",
]
