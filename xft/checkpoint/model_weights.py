"""The weights that a checkpoint holds: how they are copied, written, and put back."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xft.checkpoint.manifest import files_of
from xft.checkpoint.protocol import Strategy
from xft.checkpoint.state_tree import to_host
from xft.compat.peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from xft.errors import CheckpointError
from xft.models.param_shapes import full_nbytes

_ADAPTER = "adapter_model.safetensors"


class Gather(Protocol):
    """Makes weights whole while it lasts, where ranks have them in shares."""

    def __call__(self, parameters: list[nn.Parameter], /) -> AbstractContextManager[None]:
        """Make these whole."""


def _whole_already(parameters: list[nn.Parameter], /) -> AbstractContextManager[None]:
    return nullcontext()


def copy_weights(
    model: nn.Module,
    reuse: Mapping[str, Tensor] = MappingProxyType({}),
    gathered: Gather = _whole_already,
    keep: bool = True,
) -> dict[str, Tensor]:
    """The weights that a checkpoint holds, in the memory of the host: those of the adapter, or all.

    Args:
        model: on any device.
        reuse: copies of an earlier time, by name, that are written over.
        gathered: makes weights whole; all ranks must then call this.
        keep: whether this rank wants the copies; else it only takes part.
    """
    copies: dict[Any, Tensor] = {}
    out: dict[str, Tensor] = {}

    def take(name: str, live: Tensor, place: Any) -> None:
        if place not in copies:
            copies[place] = to_host(live, reuse.get(name))
        out[name] = copies[place]

    if isinstance(model, PeftModel):
        with gathered([each for each in model.parameters() if each.requires_grad]):
            if keep:
                for name, each in get_peft_model_state_dict(model, save_embedding_layers=False).items():
                    take(name, each, _place(each) if each.numel() else name)
        return out
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, each in model.state_dict().items():
        shared = [parameters[name]] if name in parameters else []
        if not keep and not hasattr(parameters.get(name), "ds_id"):
            continue
        with gathered(shared):
            live = shared[0].data if shared else each
            # What is gathered for a moment may lie where another weight lay before it.
            partitioned = shared and hasattr(shared[0], "ds_id")
            if keep:
                take(name, live, id(shared[0]) if partitioned else _place(live) if live.numel() else name)
    return out


def _place(weight: Tensor) -> tuple[Any, ...]:
    """Weights that share their memory share their copy, so that they are written once."""
    return weight.device, weight.data_ptr(), weight.shape, weight.stride()


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
    trained = sum(full_nbytes(each) for each in model.parameters() if each.requires_grad)
    whole = not isinstance(model, PeftModel)
    weights = sum(full_nbytes(each) for each in model.parameters()) if whole else trained
    return int(weights + (2 * trained if optimizer else 0))


def load_weights_into(model: nn.Module, folder: Path, strategy: Strategy | None = None) -> None:
    """Put the weights of a checkpoint into a model of the same shape. Only files that its manifest
    names are read.

    Args:
        model: bare.
        folder: the checkpoint.
        strategy: that the model is prepared by, where it is.

    Raises:
        CheckpointError: names do not match.
        RuntimeError: shapes do not.
    """
    if isinstance(model, PeftModel):
        trained = [each for each in model.parameters() if each.requires_grad]
        with strategy.gathered(trained, write=True) if strategy is not None else nullcontext():
            result = set_peft_model_state_dict(model, load_file(folder / _ADAPTER))
        wrong = list(result.unexpected_keys)
    else:
        wrong = _load_whole(model, _read_whole(folder), strategy)
        if wrong:
            # Some models are saved under other names than they have in memory, or in other pieces.
            # Their own loader knows how to turn them back.
            kind: Any = type(model)
            again = kind.from_pretrained(folder, dtype=next(model.parameters()).dtype)
            wrong = _load_whole(model, again.state_dict(), strategy)
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


def _load_whole(model: nn.Module, weights: Mapping[str, Tensor], strategy: Strategy | None) -> list[str]:
    """Returns the names that do not match."""
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    if strategy is None or not strategy.together:
        missing, unexpected = model.load_state_dict(weights, strict=False)
        return [*(each for each in missing if each not in tied), *unexpected]
    # Torch would compare with the shape of a share.
    own = model.state_dict(keep_vars=True)
    wrong = [each for each in own if each not in weights and each not in tied]
    wrong += [each for each in weights if each not in own]
    for name, each in own.items():
        if name in weights and isinstance(each, nn.Parameter):
            strategy.put(each, weights[name])
        elif name in weights:
            each.copy_(weights[name])
    return wrong
