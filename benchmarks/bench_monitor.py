"""What a contestant of `benchmark.py` was given and when, and its validation loss, by the same lines for all.

At its top this file imports nothing but Python's own, for it also runs in environments without xft.
"""

import time
from typing import Any


class Watch:
    """Notes what a model is given, and when steps end."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.now = {"total": 0, "tokens": 0, "targets": 0}
        self.begun = (0.0, 0.0)

    def see(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Count the tokens of a forward pass: all, those that are not padding, the trained ones."""
        ids: Any = kwargs["input_ids"]
        mask, labels = kwargs.get("attention_mask"), kwargs.get("labels")
        if labels is None:  # not training
            return
        self.now["total"] += ids.numel()
        self.now["tokens"] += ids.numel() if mask is None else count_real(mask)
        self.now["targets"] += int((labels[:, 1:] != -100).sum())

    def begin(self) -> None:
        """The first step begins."""
        self.begun = time.perf_counter(), time.process_time()

    def end_step(self, **seen: float) -> None:
        """A step has ended, and the next begins."""
        now = time.perf_counter(), time.process_time()
        self.steps.append(
            {**(seen or self.now), "wall": now[0] - self.begun[0], "cpu": now[1] - self.begun[1]}
        )
        self.now = dict.fromkeys(self.now, 0)
        self.begun = now


def count_real(mask: Any) -> int:
    """How many tokens are not padding: ``(batch, seq)`` of what is not 0, or ``(batch, 1, seq, seq)`` of what a
    token sees (True, or 0 to be added to its scores), where padding does not even see itself."""
    if mask.ndim == 2:
        return int((mask != 0).sum())
    own = mask[:, 0].diagonal(dim1=1, dim2=2)
    return int((own == 0 if own.dtype.is_floating_point else own).sum())


def validation_loss(model: Any, samples: list[dict[str, list[int]]]) -> float:
    """The mean loss of a trained token, sample by sample, by the model's own forward pass."""
    import torch

    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for each in samples:
            ids, labels = (torch.tensor([each[name]]) for name in ("ids", "labels"))
            targets = labels[0, 1:]
            keep = targets != -100
            logits = model(input_ids=ids).logits[0, :-1][keep].float()
            total += float(torch.nn.functional.cross_entropy(logits, targets[keep], reduction="sum"))
            count += int(keep.sum())
    return total / count
