"""Choose the device of this process and seed its random number generators."""

import os
import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from xft.errors import ConfigError


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch on every device with ``seed + rank``, which gives each rank its own dropout."""
    random.seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)
    torch.manual_seed(seed + rank)


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device of this process.

    Args:
        name: ``auto`` (the GPU of this local rank, or else the CPU), or a torch device name. ``cuda`` without an index
            is the GPU of this local rank.

    Raises:
        ConfigError: torch does not know the name, finds no CUDA device, or finds fewer GPUs.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(key="strategy.device", got=name, expected="auto, cpu, cuda or mps") from error
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ConfigError(
            key="strategy.device",
            got=name,
            expected="a device of this machine, where torch finds no CUDA device",
            fix="set it to 'auto'",
        )
    index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    count = torch.cuda.device_count()
    if index >= count:
        raise ConfigError(
            key="strategy.device",
            got=f"cuda:{index}",
            expected=f"one of the {count} GPUs of this machine, numbered from 0",
            fix="start one process per GPU",
        )
    return torch.device("cuda", index)


def has_native_bf16(device: torch.device) -> bool:
    """Return whether a device has bf16 arithmetic, which makes bf16 faster than fp32.

    On x86, torch also reports support if it emulates bf16 with AVX512, which is slower than fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def autocast(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Enter torch's autocast, or nothing if ``dtype`` is ``None``."""
    if dtype is None:
        yield
    else:
        with torch.autocast(device.type, dtype=dtype):
            yield
