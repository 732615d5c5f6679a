"""Check that a model that has diverged is neither trained further nor saved."""

import math

from torch import nn

from xft.errors import TrainingError
from xft.models.weight_checks import nonfinite_names
from xft.strategies import Strategy

_LOWER_LR = "lower optimizer.lr, and start from an earlier checkpoint or from the model"


def check_validation_loss(loss: float, step: int) -> None:
    """Check the loss on the validation split.

    Raises:
        TrainingError: it is not finite.
    """
    if not math.isfinite(loss):
        fix = _LOWER_LR if step else "check model.dtype, and the rows with `xft inspect-data --split val`"
        raise TrainingError(
            f"the validation loss at step {step} is {loss}; {fix}", key="validation loss", got=loss, fix=fix
        )


def check_trained_weights(model: nn.Module, strategy: Strategy, step: int) -> None:
    """Check that the trained weights are finite. Collective.

    Raises:
        TrainingError: some are not.
    """
    trained = ((name, param) for name, param in model.named_parameters() if param.requires_grad)
    names = nonfinite_names((name, strategy.local_view(param)) for name, param in trained)
    count = sum(strategy.reduce_sum((len(names),)))
    if count:
        first = f" (such as {names[0]})" if names else ""
        raise TrainingError(
            f"{count:.0f} trained tensors{first} have NaN or infinite values at step {step}, which is not saved; "
            f"{_LOWER_LR}",
            key="trained weights",
            got=names,
            expected="finite values",
            fix=_LOWER_LR,
        )
