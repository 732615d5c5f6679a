"""Record tokens and times of a contestant of `benchmark.py`, and compute its validation loss.

At module level, this file imports only the standard library, because it also runs in environments without xft.
"""

import time
from collections.abc import Callable
from typing import Any


class Watch:
    """Record the tokens that a model processes, and the time of each step.

    Args:
        synchronize: waits until a GPU has done its work; called before a clock is read.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.synchronize = synchronize
        self.steps: list[dict[str, float]] = []
        self.now = {"total": 0, "tokens": 0, "targets": 0}
        self.begun = (0.0, 0.0)

    def see(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Count the tokens of a forward pass: all, without padding, and target tokens."""
        ids: Any = kwargs["input_ids"]
        mask, labels = kwargs.get("attention_mask"), kwargs.get("labels")
        if labels is None:  # not training
            return
        self.now["total"] += ids.numel()
        self.now["tokens"] += ids.numel() if mask is None else count_real(mask)
        self.now["targets"] += int((labels[:, 1:] != -100).sum())

    def begin(self) -> None:
        """Start the clock of the first step."""
        self.synchronize()
        self.begun = time.perf_counter(), time.process_time()

    def end_step(self, **seen: float) -> None:
        """Record a step and start the clock of the next."""
        self.synchronize()
        now = time.perf_counter(), time.process_time()
        self.steps.append(
            {**(seen or self.now), "wall": now[0] - self.begun[0], "cpu": now[1] - self.begun[1]}
        )
        self.now = dict.fromkeys(self.now, 0)
        self.begun = now


def count_real(mask: Any) -> int:
    """Count the tokens that are not padding.

    ``mask`` is ``(batch, seq)``, nonzero for real tokens, or ``(batch, 1, seq, seq)``, boolean or additive. In the
    second form, a padding token does not attend to itself.
    """
    if mask.ndim == 2:
        return int((mask != 0).sum())
    diagonal = mask[:, 0].diagonal(dim1=1, dim2=2)
    return int((diagonal == 0 if diagonal.dtype.is_floating_point else diagonal).sum())


def validation_loss(model: Any, samples: list[dict[str, list[int]]]) -> float:
    """Return the mean loss per target token; each sample is one forward pass of the model."""
    import torch

    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for each in samples:
            ids, labels = (torch.tensor([each[name]], device=model.device) for name in ("ids", "labels"))
            targets = labels[0, 1:]
            keep = targets != -100
            logits = model(input_ids=ids).logits[0, :-1][keep].float()
            total += float(torch.nn.functional.cross_entropy(logits, targets[keep], reduction="sum"))
            count += int(keep.sum())
    return total / count if count else float("nan")
