"""In which portions is trained, as strategies want to know it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Portions:
    """In which portions is trained.

    Attributes:
        batch_size: rows in a micro-batch.
        accumulation: micro-batches on each rank in an optimizer step.
        num_steps: optimizer steps in the whole run.
        clip: the most that the gradient's norm may be.
    """

    batch_size: int
    accumulation: int
    num_steps: int
    clip: float | None
