"""The device of this process, and the seed of its random numbers."""

import os
import random

import numpy as np
import torch

from xft.errors import ConfigError


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch on every device. Ranks differ, so that their dropout does."""
    random.seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)
    torch.manual_seed(seed + rank)


def choose_device(name: str = "auto") -> torch.device:
    """The device of this process: its own GPU where there is one, else the CPU.

    Raises:
        ConfigError: a device is asked for that the machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise ConfigError(f"strategy.device: got {name!r}, but torch finds no CUDA device; use 'auto'")
        index = int(name.partition(":")[2] or os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", index)
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"strategy.device: got {name!r}, expected auto, cpu, cuda or mps") from error
