"""Strategies: where the model lives, how gradients meet, how state is kept.

They stand on MMEngine's ``BaseStrategy``, whose runner drives them. Its own strategies are not
used: they choose a CUDA device even where there is none, average what should be summed, and
read checkpoints with a pickle loader; the one for DeepSpeed cannot be imported with today's.
"""

from xft.distributed.devices import choose_device, seed_everything
from xft.distributed.launch import agree_on, read_launcher, run_on_devices, start_process_group
from xft.strategies.batching import Portions
from xft.strategies.ddp import DDP
from xft.strategies.deepspeed.config import read_option
from xft.strategies.deepspeed.strategy import DeepSpeed
from xft.strategies.single_device import Autocast, SingleDevice

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
]
