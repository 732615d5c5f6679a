"""Tolerances that follow from the number of rounded additions, and distances to compare with them."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

CONFIDENCE = 4.0


def tolerance(dtype: torch.dtype, terms: int, scale: float = 1.0) -> float:
    """Compute how far two results of the same sum may differ by the order of its additions.

    Rounding errors of ``n`` additions behave like independent numbers of at most half an epsilon: with
    probability ``1 - 2 exp(-c**2 / 2)`` their sum stays below ``c * sqrt(n) * eps / 2`` times the sum of absolute
    values (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis", theorem 2.4). Two
    computations differ by at most twice that; ``c`` is :data:`CONFIDENCE`. Vector width, tiles (AVX2, AVX512,
    AMX, NEON) and the number of threads change the order alone, so that the bound holds on all of them.

    Args:
        dtype: type in which results are rounded.
        terms: additions behind a number: the length of the longest sum, times the sums in a row if each is
            the input of the next one.
        scale: sum of the absolute values of the terms; 1 gives a relative tolerance for sums without
            cancellation and for norms of vectors.
    """
    return CONFIDENCE * math.sqrt(terms) * torch.finfo(dtype).eps * scale


def relative_distance(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Compute the norm of the difference of two sets of gradients, relative to the norm of ``expected``."""
    assert got.keys() == expected.keys()
    difference = sum(float((got[name] - each).double().square().sum()) for name, each in expected.items())
    return math.sqrt(difference / sum(float(each.double().square().sum()) for each in expected.values()))


def assert_close_sums(got: Tensor, expected: Tensor, relative: float, name: str = "") -> None:
    """Compare tensors whose elements are sums with cancellation, such as gradients.

    The rounding error of an element scales with its terms, not with their sum. The largest element stands for
    the size of the terms.

    Args:
        got: computed tensor.
        expected: reference.
        relative: of :func:`tolerance`.
        name: name for the message.
    """
    atol = relative * float(expected.detach().abs().max())
    torch.testing.assert_close(got, expected, rtol=relative, atol=atol, msg=lambda text: f"{name}: {text}")


TINY_MODEL_FP32 = tolerance(torch.float32, 128 * 24)
"""Relative tolerance of a loss or gradient of :mod:`helpers.tiny` in fp32: two layers, forward and backward, are
24 products in a row of at most 128 terms. A wrong weight of a micro-batch is a thousand times larger."""
