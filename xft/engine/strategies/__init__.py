"""Strategies: where the model lives, how gradients meet, how state is kept.

They stand on MMEngine's ``BaseStrategy``, whose runner drives them. Its own strategies are not
used: they choose a CUDA device even where there is none, average what should be summed, and
read checkpoints with a pickle loader; the one for DeepSpeed cannot be imported with today's.
"""

from xft.engine.strategies.ddp import DDP
from xft.engine.strategies.devices import choose_device, seed_everything
from xft.engine.strategies.launch import (
    agree_on,
    read_launcher,
    run_on_devices,
    start_process_group,
)
from xft.engine.strategies.portions import Portions
from xft.engine.strategies.single import Autocast, SingleDevice, unwrap
from xft.engine.strategies.zero import DeepSpeed
from xft.engine.strategies.zero_config import read_option

__all__ = [
    "DDP",
    "Autocast",
    "DeepSpeed",
    "Portions",
    "SingleDevice",
    "agree_on",
    "choose_device",
    "read_launcher",
    "read_option",
    "run_on_devices",
    "seed_everything",
    "start_process_group",
    "unwrap",
]
