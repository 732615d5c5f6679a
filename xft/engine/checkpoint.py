"""What a checkpoint holds: how it is taken from a training, written, read and put back.

A checkpoint is a saved model (see ``xft.models.artifact``), and beside it the state of the
training: optimizer, schedule, random numbers of every rank, and what the runner remembers. All
of it is safetensors and JSON; reading it runs no code.

It is taken in two moves. A :class:`Snapshot` copies everything into the memory of the host,
while training waits; writing it to the disk is then a thread's work, while training goes on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xft.engine.manifest import files_of
from xft.engine.state import pack, set_random_state, to_host, unpack
from xft.errors import CheckpointError

if TYPE_CHECKING:
    from xft.engine.strategies import SingleDevice

STATE = "training_state.json"
TENSORS = "training_state.safetensors"
_ADAPTER = "adapter_model.safetensors"
_KEYS = {"step", "tokens_seen", "hooks", "training"}


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
    """

    step: int
    state: dict[str, Any]
    tensors: dict[str, Tensor]
    weights: dict[str, Tensor]
    parts: Mapping[str, bytes]
    write_weights: Callable[[Mapping[str, Tensor], Path], None]

    @property
    def size(self) -> int:
        """Bytes that it will take on the disk, nearly."""
        tensors = {
            each.data_ptr(): each.nbytes for each in (*self.tensors.values(), *self.weights.values())
        }
        return sum(tensors.values()) + sum(map(len, self.parts.values())) + len(json.dumps(self.state))

    def write(self, folder: Path) -> None:
        """Write the files of a checkpoint into an empty folder.

        Raises:
            OSError: the disk does not take them.
            SafetensorError: the same, from below.
        """
        self.write_weights(self.weights, folder)
        for name, content in self.parts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        save_file(self.tensors, folder / TENSORS)
        (folder / STATE).write_text(json.dumps(self.state, indent=1) + "\n", encoding="utf-8")


def take_training(
    strategy: "SingleDevice", ranks: Sequence[Any], optimizer: bool, reuse: Mapping[str, Tensor]
) -> tuple[Any, dict[str, Tensor]]:
    """The state of a training but for the weights.

    Args:
        strategy: what trains.
        ranks: the ``random_state`` of each.
        optimizer: whether its state is taken too. Without it, training cannot go on exactly.
        reuse: copies of an earlier time, by name, that are written over.

    Returns:
        What JSON can hold, and tensors in the memory of the host.
    """
    tree = {
        "optimizer": strategy.optimizer.state_dict() if optimizer else None,
        "schedule": strategy.schedule.state_dict(),
        "random": ranks,
    }
    tensors: dict[str, Tensor] = {}
    return pack(tree, tensors, "training", reuse), tensors


def copy_weights(model: nn.Module, reuse: Mapping[str, Tensor] = MappingProxyType({})) -> dict[str, Tensor]:
    """The weights that a checkpoint holds, in the memory of the host: those of the adapter, or all.

    Args:
        model: on any device.
        reuse: copies of an earlier time, by name, that are written over.
    """
    if isinstance(model, PeftModel):
        live = get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        live = model.state_dict()
    copies: dict[Any, Tensor] = {}
    out = {}
    for name, each in live.items():
        # Weights that share their memory share their copy, so that they are written once.
        place = (each.device, each.data_ptr(), each.shape, each.stride()) if each.numel() else name
        out[name] = copies[place] = copies[place] if place in copies else to_host(each, reuse.get(name))
    return out


def weights_writer(model: nn.Module) -> Callable[[Mapping[str, Tensor], Path], None]:
    """A function that writes copied weights into a folder as ``save_pretrained`` writes live ones.

    What it writes beside the weights is incomplete: ``Snapshot.parts`` is to be written on top.
    """
    if isinstance(model, PeftModel):
        return lambda weights, folder: save_file(dict(weights), folder / _ADAPTER, {"format": "pt"})
    whole: Any = model
    return lambda weights, folder: whole.save_pretrained(folder, state_dict=dict(weights))


def placeholders(model: nn.Module) -> dict[str, Tensor]:
    """Weights for ``save_pretrained`` that take no time: what they are saved for is the files beside."""
    return dict.fromkeys(model.state_dict(), torch.zeros(1)) if isinstance(model, PeftModel) else {}


def estimate(model: nn.Module, optimizer: bool) -> int:
    """Bytes that a checkpoint will take, nearly, before the optimizer has any state: two numbers
    for each trained weight, as AdamW keeps them."""
    if isinstance(model, PeftModel):
        weights = sum(
            each.nbytes for each in get_peft_model_state_dict(model, save_embedding_layers=False).values()
        )
    else:
        weights = sum(each.nbytes for each in model.parameters())
    trained = sum(each.nbytes for each in model.parameters() if each.requires_grad)
    return int(weights + (2 * trained if optimizer else 0))


def read_state(folder: Path) -> dict[str, Any]:
    """What the runner remembered in a checkpoint.

    Raises:
        CheckpointError: the file is broken.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if not (isinstance(state, dict) and state.keys() >= _KEYS):
            raise ValueError(f"got {state!r:.60}")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / STATE}: broken ({error})") from error
    return state


def put_back(folder: Path, strategy: "SingleDevice") -> dict[str, Any]:
    """Put weights, optimizer, schedule and random numbers where a checkpoint was.

    Returns:
        What the runner remembered in it.

    Raises:
        CheckpointError: the checkpoint is broken, belongs to another model, or holds no state of
            the optimizer.
    """
    from xft.engine.strategies import unwrap

    said = read_state(folder)
    try:
        training = unpack(said["training"], load_file(folder / TENSORS))
        if training["optimizer"] is None:
            raise CheckpointError(
                f"{folder}: holds no state of the optimizer (hooks.checkpoint.optimizer=False), so the run cannot "
                "be gone on with; start a new run from its weights"
            )
        inner: Any = unwrap(strategy.model)
        load_weights_into(inner.model, folder)
        strategy.optimizer.load_state_dict(training["optimizer"])
        strategy.schedule.load_state_dict(training["schedule"])
        _set_rate(strategy)
        set_random_state(training["random"][strategy.rank], strategy.device)
    except _BROKEN as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: cannot be resumed from ({first})") from error
    return said


_BROKEN = (OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError, SafetensorError)
"""What the readers of a broken file raise."""


def _set_rate(strategy: "SingleDevice") -> None:
    """Put the learning rate where the schedule of this run has it. It is not that of the checkpoint
    when the run has been made longer."""
    schedule: Any = strategy.schedule
    rates = [
        base * rate(schedule.last_epoch)
        for base, rate in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(strategy.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


def load_weights_into(model: nn.Module, folder: Path) -> None:
    """Put the weights of a checkpoint into a model of the same shape. Only files that its manifest
    names are read.

    Raises:
        CheckpointError: names do not match.
        RuntimeError: shapes do not.
    """
    if isinstance(model, PeftModel):
        result = set_peft_model_state_dict(model, load_file(folder / _ADAPTER))
        wrong = list(result.unexpected_keys)
    else:
        wrong = _load_whole(model, _read_whole(folder))
        if wrong:
            # Some models are saved under other names than they have in memory, or in other pieces.
            # Their own loader knows how to turn them back.
            kind: Any = type(model)
            again = kind.from_pretrained(folder, dtype=next(model.parameters()).dtype)
            wrong = _load_whole(model, again.state_dict())
    if wrong:
        raise CheckpointError(
            f"{folder}: belongs to another model ({len(wrong)} names such as {wrong[0]!r})"
        )


def _read_whole(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for name in sorted(files_of(folder)):
        if name.startswith("model") and name.endswith(".safetensors"):
            weights |= load_file(folder / name)
    if not weights:
        raise CheckpointError(f"{folder}: holds no weights of a whole model")
    return weights


def _load_whole(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Returns the names that do not match."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    return [*(each for each in missing if each not in tied), *unexpected]
