"""What a checkpoint holds: how it is taken from a training, written, read and put back.

A checkpoint is a saved model (see ``xft.models.saved_model``), and beside it the state of the
training: optimizer, schedule, random numbers of every rank, and what the runner remembers. All
of it is safetensors and JSON; reading it runs no code.

It is taken in two moves. A :class:`Snapshot` copies everything into the memory of the host,
while training waits; writing it to the disk is then a thread's work, while training goes on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xft.checkpoint.model_weights import load_weights_into
from xft.checkpoint.protocol import Strategy
from xft.checkpoint.shards import Share, reader
from xft.checkpoint.state_tree import Shares, pack, set_random_state, unpack
from xft.errors import CheckpointError
from xft.models import unwrap

STATE = "training_state.json"
TENSORS = "training_state.safetensors"
_KEYS = {"step", "tokens_seen", "hooks", "training", "data_fingerprint", "batching", "shards"}


@dataclass
class Snapshot:
    """A training at a step, in the memory of the host.

    Attributes:
        step: optimizer steps taken.
        state: what ``training_state.json`` will say.
        tensors: of the state.
        weights: of the model, or of its adapter.
        parts: the files of the saved model that do not change in a run, by name.
        write_weights: writes weights into a folder.
        share: what each rank writes itself, where ranks have the state in shares.
    """

    step: int
    state: dict[str, Any]
    tensors: dict[str, Tensor]
    weights: dict[str, Tensor]
    parts: Mapping[str, bytes]
    write_weights: Callable[[Mapping[str, Tensor], Path], None]
    share: Share | None = None

    @property
    def size(self) -> int:
        """Bytes that it will take on the disk, nearly."""
        tensors = {
            each.data_ptr(): each.nbytes for each in (*self.tensors.values(), *self.weights.values())
        }
        shared = 0 if self.share is None else self.share.size
        own = sum(tensors.values()) + sum(map(len, self.parts.values())) + len(json.dumps(self.state))
        return own + shared

    def write(self, folder: Path) -> None:
        """Write the files of a checkpoint into an empty folder.

        Raises:
            OSError: the disk does not take them.
            SafetensorError: the same, from below.
        """
        self.write_weights(self.weights, folder)
        write_parts(self.parts, folder)
        save_file(self.tensors, folder / TENSORS)
        (folder / STATE).write_text(json.dumps(self.state, indent=1) + "\n", encoding="utf-8")


def write_parts(parts: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of a saved model that are not its weights."""
    for name, content in parts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def take_training(
    strategy: Strategy, ranks: Sequence[Any], optimizer: bool, reuse: Mapping[str, Tensor]
) -> tuple[Any, dict[str, Tensor], Shares]:
    """The state of a training but for the weights.

    Args:
        strategy: what trains.
        ranks: the ``random_state`` of each.
        optimizer: whether its state is taken too. Without it, training cannot go on exactly.
        reuse: copies of an earlier time, by name, that are written over.

    Returns:
        What JSON can hold, tensors in the memory of the host, and this rank's shares of others.
    """
    tree = {
        "optimizer": strategy.optimizer_state() if optimizer else None,
        "lr_scheduler": strategy.lr_scheduler.state_dict(),
        "random": ranks,
    }
    tensors: dict[str, Tensor] = {}
    shares: Shares = {}
    return pack(tree, tensors, "training", reuse, shares), tensors, shares


def read_state(folder: Path) -> dict[str, Any]:
    """What the runner remembered in a checkpoint.

    Raises:
        CheckpointError: the file is broken.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if not isinstance(state, dict):
            raise ValueError(f"got {state!r:.60}")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / STATE}: broken ({error})") from error
    if missing := _KEYS - state.keys():
        raise CheckpointError(
            key=str(folder / STATE),
            got=sorted(state),
            expected=f"the keys {', '.join(sorted(missing))} too: the checkpoint has the format of another version of xft",
            fix="Start a new run from its weights",
        )
    return state


def put_back(folder: Path, strategy: Strategy) -> dict[str, Any]:
    """Put weights, optimizer, schedule and random numbers where a checkpoint was.

    Returns:
        What the runner remembered in it.

    Raises:
        CheckpointError: the checkpoint is broken, belongs to another model, or holds no state of
            the optimizer.
    """
    said = read_state(folder)
    try:
        shared = reader(folder, said["shards"])
        training = unpack(said["training"], load_file(folder / TENSORS), shared)
        if training["optimizer"] is None:
            raise CheckpointError(
                f"{folder}: holds no state of the optimizer (hooks.checkpoint.save_optimizer_state=False), so the run cannot "
                "be gone on with; start a new run from its weights"
            )
        load_weights_into(unwrap(strategy.model).model, folder, strategy)
        strategy.after_loading()
        strategy.load_optimizer_state(training["optimizer"])
        strategy.lr_scheduler.load_state_dict(training["lr_scheduler"])
        _set_rate(strategy)
        ranks = training["random"]
        if strategy.rank < len(ranks):
            set_random_state(ranks[strategy.rank], strategy.device)
    except _BROKEN as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: cannot be resumed from ({first})") from error
    return said


_BROKEN = (OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError, SafetensorError)
"""What the readers of a broken file raise."""


def _set_rate(strategy: Strategy) -> None:
    """Put the learning rate where the schedule of this run has it. It is not that of the checkpoint
    when the run has been made longer."""
    lr_scheduler: Any = strategy.lr_scheduler
    rates = [
        base * rate(lr_scheduler.last_epoch)
        for base, rate in zip(lr_scheduler.base_lrs, lr_scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(strategy.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    lr_scheduler._last_lr = rates
