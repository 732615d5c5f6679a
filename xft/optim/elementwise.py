"""Measure whether an optimizer works element by element, so that each rank can step its own part of a parameter."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xft.errors import XftError
from xft.optim.schedule_free import to_eval_mode, to_train_mode

SHAPE = (66, 130)
"""Of the measured matrix. bitsandbytes quantizes the state of 4,096 elements and more, in blocks of 256: half of the
matrix has more, and does not end with a block."""
NUM_STEPS = 4
LR = 0.1
MAX_DIFFERENT = 0.01
"""Largest fraction of elements that may differ. Measured: 0 for optimizers that work element by element, above 0.3 for
others."""
_TOLERANCE = 1e-3
"""Of an element, relative to the largest change of any."""


def elementwise_problem(create: Callable[..., Optimizer], flat: bool = False) -> str:
    """Return why ranks must not step parts of a parameter; empty if they may.

    A matrix is stepped as a whole and, with an optimizer for each, in halves of its rows. The results must be equal, and
    the state must have the shape of the parameters, since it is saved by their elements.

    Args:
        create: optimizer class or function, with everything except the parameters bound.
        flat: step flat halves, as ZeRO does.
    """
    generator = torch.Generator().manual_seed(0)
    # Rows of different size: a norm of half of them is not that of all.
    start = torch.randn(SHAPE, generator=generator) * torch.linspace(0.5, 2, SHAPE[0])[:, None]
    gradients = [torch.randn(SHAPE, generator=generator) * start.abs() for _ in range(NUM_STEPS)]
    optimizer, expected = _step(create, start, gradients)
    name = type(optimizer).__name__
    for value in optimizer.state[optimizer.param_groups[0]["params"][0]].values():
        if isinstance(value, Tensor) and value.numel() != 1 and value.shape != SHAPE:
            return f"the state of {name} does not have the shape of the parameters, but such as {tuple(value.shape)}"
    halves = zip(*(_halves(tensor, flat) for tensor in (start, *gradients)), strict=True)
    try:
        result = torch.cat([_step(create, half, rest)[1].flatten() for half, *rest in halves])
    except XftError:
        raise
    except Exception as error:  # noqa: BLE001  Any optimizer may fail in any way on parts of a parameter.
        return f"{name} fails on a part of a parameter ({(str(error) or type(error).__name__).splitlines()[0]})"
    limit = _TOLERANCE * float((expected - start).abs().max())
    different = ((result.reshape(SHAPE) - expected).abs() > limit).float().mean()
    if float(different) <= MAX_DIFFERENT:
        return ""
    return (
        f"{name} does not work element by element: stepping two halves of a matrix gives other weights than stepping all "
        "of it, as measured"
    )


def _halves(tensor: Tensor, flat: bool) -> Sequence[Tensor]:
    return tensor.flatten().chunk(2) if flat else tensor.chunk(2)


def _step(
    create: Callable[..., Optimizer], start: Tensor, gradients: Sequence[Tensor]
) -> tuple[Optimizer, Tensor]:
    """Return the optimizer, and the parameter that it has stepped with each gradient."""
    param = nn.Parameter(start.clone())
    optimizer = create([{"params": [param]}])
    for group in optimizer.param_groups:
        group["lr"] = LR  # That of the config may be below the rounding of the parameter.
    for gradient in gradients:
        to_train_mode(optimizer)
        param.grad = gradient.clone()
        optimizer.step()
        to_eval_mode(optimizer)
    return optimizer, param.detach()
