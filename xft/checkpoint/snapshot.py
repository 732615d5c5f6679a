"""Copy the state of a training run to CPU memory, write it to a checkpoint, and load it.

A checkpoint consists of a saved model (see ``xft.models.saved_model``) and the training state: optimizer,
scheduler, random number generators of all ranks, and :class:`RunState`. All files are safetensors or JSON;
loading them runs no code.

Saving has two phases. First, training waits while everything is copied to CPU memory (:class:`Snapshot`).
Then a thread writes the snapshot to disk while training continues.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from xft.checkpoint.model_weights import load_model_weights
from xft.checkpoint.resume_state import STATE_FILE, TENSORS_FILE, ResumeState, RunState
from xft.checkpoint.shards import CheckpointShard, open_shards
from xft.checkpoint.state_tree import LocalShards, flatten_state, set_rng_state, unflatten_state
from xft.errors import CheckpointError
from xft.models import unwrap
from xft.strategies import Strategy

_READ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    AttributeError,
    SafetensorError,
)
"""Errors that loading a corrupt file can raise."""


@dataclass
class Snapshot:
    """A training run at a step, in CPU memory.

    Attributes:
        run: position and settings of the run.
        training: flattened optimizer, scheduler and RNG state.
        shard_ranges: for each rank, ``[offset, numel]`` of its shard of each sharded tensor.
        tensors: tensors of ``training`` by name.
        weights: weights of the model or its adapter by name; empty if the shards of all ranks have them.
        static_files: content of the files of the saved model that do not change during a run, by name.
        write_weights: writes weights to a folder.
        shard: the part that this rank writes separately; ``None`` if nothing is sharded.
    """

    run: RunState
    training: object
    shard_ranges: Sequence[Mapping[str, Sequence[int]]]
    tensors: dict[str, Tensor]
    weights: dict[str, Tensor]
    static_files: Mapping[str, bytes]
    write_weights: Callable[[Mapping[str, Tensor], Path], None]
    shard: CheckpointShard | None = None

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return self.run.step

    @property
    def total_bytes(self) -> int:
        """Approximate size on disk in bytes, including the shards of all ranks."""
        tensors = {
            tensor.data_ptr(): tensor.nbytes for tensor in (*self.tensors.values(), *self.weights.values())
        }
        sharded = 0 if self.shard is None else self.shard.total_bytes
        return (
            sum(tensors.values()) + sum(map(len, self.static_files.values())) + len(self._json()) + sharded
        )

    def write(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write the files of a checkpoint to a folder.

        Args:
            folder: has no other files than the shards of the ranks.
            weights: the weights, if they are not in the snapshot.

        Raises:
            OSError, SafetensorError: a file cannot be written to disk.
        """
        self.write_weights(self.weights if weights is None else weights, folder)
        write_static_files(self.static_files, folder)
        save_file(self.tensors, folder / TENSORS_FILE)
        (folder / STATE_FILE).write_text(self._json(), encoding="utf-8")

    def _json(self) -> str:
        content = {**asdict(self.run), "training": self.training, "shards": self.shard_ranges}
        return json.dumps(content, indent=1) + "\n"


def write_static_files(static_files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of a saved model, except the weights."""
    for name, content in static_files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def collect_training_state(
    strategy: Strategy,
    rng_states: Sequence[Any],
    save_optimizer_state: bool,
    reuse: Mapping[str, Tensor],
    loop_states: Sequence[object] = (),
) -> tuple[Any, dict[str, Tensor], LocalShards]:
    """Copy the training state, without the weights, to CPU memory.

    Args:
        strategy: the strategy.
        rng_states: result of ``get_rng_state`` on each rank.
        save_optimizer_state: whether to copy the optimizer state; training cannot be resumed without it.
        reuse: earlier CPU copies by name, which are overwritten.
        loop_states: what the loop of each rank stores; ``None`` for nothing.

    Returns:
        The JSON part, the tensors, and this rank's shards of sharded tensors.
    """
    tree: dict[str, Any] = {
        "optimizer": strategy.optimizer_state() if save_optimizer_state else None,
        "lr_scheduler": strategy.lr_scheduler.state_dict(),
        "rng": [*rng_states],
    }
    if any(state is not None for state in loop_states):
        tree["loop"] = [*loop_states]
    tensors: dict[str, Tensor] = {}
    shards: LocalShards = {}
    return flatten_state(tree, tensors, "training", reuse, shards), tensors, shards


def load_training_state(state: ResumeState, strategy: Strategy) -> list[object]:
    """Load weights, optimizer, scheduler and random number generators of a checkpoint. Collective.

    Returns:
        What the loop of each rank stored; empty for nothing.

    Raises:
        CheckpointError: the checkpoint is corrupt, belongs to another model, or has no optimizer state.
    """
    folder = state.folder
    try:
        tensors = load_file(folder / TENSORS_FILE)
        training = unflatten_state(state.training, tensors, open_shards(folder, state.shards))
        if training["optimizer"] is None:
            raise CheckpointError(
                f"{folder} has no optimizer state (hooks.checkpoint.save_optimizer_state=False), so training cannot "
                "be resumed from it; start a new run from its weights",
                key=str(folder),
                expected="optimizer state",
            )
        load_model_weights(unwrap(strategy.model).model, folder, strategy)
        strategy.sync_master_weights()
        strategy.load_optimizer_state(training["optimizer"])
        strategy.lr_scheduler.load_state_dict(training["lr_scheduler"])
        _restore_lr(strategy)
        rng_states = training["rng"]
        if strategy.rank < len(rng_states):
            set_rng_state(rng_states[strategy.rank], strategy.device)
        return [*training.get("loop", [])]
    except _READ_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{folder} cannot be resumed ({reason})", key=str(folder)) from error


def _restore_lr(strategy: Strategy) -> None:
    """Set the learning rate to the value of this run's schedule.

    It differs from the value in the checkpoint if the number of steps has changed.
    """
    scheduler = cast(LambdaLR, strategy.lr_scheduler)
    rates = [
        base * factor(scheduler.last_epoch)
        for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(strategy.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = rates
