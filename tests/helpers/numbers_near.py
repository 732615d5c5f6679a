"""Random inputs of kernels, and distances of their results."""

import torch
from torch import Tensor

BF16 = 2.0**-8
"""Relative distance of adjacent bf16 numbers; the error of one rounding is half of it."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Draw normal numbers in fp64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(got: Tensor, expected: Tensor) -> float:
    """Return the distance of two tensors relative to the norm of the expected one."""
    got, expected = got.detach().double(), expected.detach().double()
    return float((got - expected).norm() / expected.norm())
