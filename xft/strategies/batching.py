"""Shape of an optimizer step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Batching:
    """Shape and number of the optimizer steps of a run.

    Attributes:
        micro_batch_size: rows in a forward pass on each rank.
        gradient_accumulation_steps: micro-batches in an optimizer step on each rank.
        num_steps: optimizer steps of the whole run.
        max_grad_norm: limit of the global gradient norm; ``None`` does not clip.
    """

    micro_batch_size: int
    gradient_accumulation_steps: int
    num_steps: int
    max_grad_norm: float | None
