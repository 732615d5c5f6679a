"""Numbers to try a kernel with, and how near its results are to others."""

import torch
from torch import Tensor

BF16 = 2.0**-8
"""The distance of two neighbouring bf16 numbers, as a share of them: what rounding once costs is half."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in fp64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(got: Tensor, expected: Tensor) -> float:
    """Of two tensors, as a share of the norm of what is expected."""
    return float((got.detach().double() - expected.double()).norm() / expected.detach().double().norm())
