"""Watch tensor operations."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that an operation returns.

    Args:
        counts: whether a tensor counts; by default all do.

    Attributes:
        numel: number of elements of the largest tensor.
    """

    def __init__(self, counts: Callable[[Tensor], bool] = lambda tensor: True) -> None:
        super().__init__()
        self.counts = counts
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for output in result if isinstance(result, tuple) else (result,):
            if isinstance(output, Tensor) and self.counts(output):
                self.numel = max(self.numel, output.numel())
        return result
