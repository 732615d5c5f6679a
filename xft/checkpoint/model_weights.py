"""Copy the weights of a model to CPU memory, write them to a checkpoint, and load them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xft.checkpoint.manifest import read_manifest
from xft.checkpoint.model_files import write_model_files
from xft.checkpoint.state_tree import copy_to_cpu
from xft.compat.peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from xft.errors import CheckpointError
from xft.models.param_shapes import SummonFullParams, full_nbytes, full_shape, is_sharded
from xft.strategies import Strategy

_ADAPTER = "adapter_model.safetensors"


def gather_cpu_state_dict(
    model: nn.Module,
    reuse: Mapping[str, Tensor] = MappingProxyType({}),
    summon_full_params: SummonFullParams = nullcontext,
    keep: Callable[[str], bool] = lambda _: True,
) -> dict[str, Tensor]:
    """Copy to CPU memory the weights that belong in a checkpoint: the adapter, or the full model.

    The sharded parameters of a full model are gathered one at a time.

    Args:
        model: the transformers or peft model, on any device.
        reuse: earlier copies by name, which are overwritten.
        summon_full_params: unshards parameters; if it is collective, so is this function.
        keep: whether this rank returns the copy of a weight, by its name; otherwise it only takes part in the collective
            operations.
    """
    copies: dict[Any, Tensor] = {}
    state: dict[str, Tensor] = {}

    def add(name: str, live: Tensor, storage: object) -> None:
        if storage not in copies:
            copies[storage] = copy_to_cpu(live, reuse.get(name))
        state[name] = copies[storage]

    if isinstance(model, PeftModel):
        with summon_full_params([param for param in model.parameters() if param.requires_grad]):
            for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items():
                if keep(name):
                    add(name, tensor, _storage_key(tensor) if tensor.numel() else name)
        return state
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in model.state_dict().items():
        param = parameters.get(name)
        sharded = param is not None and is_sharded(param)
        kept = keep(name)
        if not kept and not sharded:
            continue
        with summon_full_params([] if param is None else [param]) as full:
            live = tensor if param is None else full[0].data
            if kept:
                # A gathered parameter may reuse the address of one gathered earlier.
                add(name, live, id(param) if sharded else _storage_key(live) if live.numel() else name)
    return state


def _storage_key(tensor: Tensor) -> tuple[Any, ...]:
    """Return a key for the memory of a tensor: tied weights share one copy, which is written once."""
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride()


def make_weights_writer(model: nn.Module) -> Callable[[Mapping[str, Tensor], Path], None]:
    """Return a function that writes copied weights to a folder in the format of ``save_pretrained``.

    Other files that the function writes are incomplete; ``Snapshot.static_files`` overwrites them.
    """
    if isinstance(model, PeftModel):
        return lambda weights, folder: save_file(dict(weights), folder / _ADAPTER, {"format": "pt"})
    full: Any = model
    return lambda weights, folder: write_model_files(full, weights, folder)


def placeholder_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return tiny placeholder weights, for a ``save_pretrained`` call that is made for its other files."""
    return dict.fromkeys(model.state_dict(), torch.zeros(1)) if isinstance(model, PeftModel) else {}


def estimate_checkpoint_bytes(model: nn.Module, optimizer: bool) -> int:
    """Estimate the size of a checkpoint before the optimizer has any state.

    The optimizer state is estimated as two numbers per trainable parameter, as in AdamW.
    """
    trainable = sum(full_nbytes(param) for param in model.parameters() if param.requires_grad)
    is_full = not isinstance(model, PeftModel)
    weights = sum(full_nbytes(param) for param in model.parameters()) if is_full else trainable
    return int(weights + (2 * trainable if optimizer else 0))


def load_model_weights(model: nn.Module, folder: Path, strategy: Strategy | None = None) -> None:
    """Load the weights of a checkpoint into a model of the same architecture.

    An adapter is read from ``adapter_model.safetensors``. Of a full model, the ``model*.safetensors`` files that the
    manifest lists are read. If their parameter names differ from those of the model, ``from_pretrained`` reads the folder.

    Args:
        model: the transformers or peft model.
        folder: the checkpoint.
        strategy: the strategy that prepared the model, if any.

    Raises:
        CheckpointError: the parameter names differ, the manifest of a full model is missing or invalid, or it lists no
            weights.
        RuntimeError: a parameter shape differs.
        OSError, SafetensorError: a file cannot be read.
    """
    if isinstance(model, PeftModel):
        mismatched = _load_adapter(model, load_file(folder / _ADAPTER), strategy)
    else:
        mismatched = _load_full(model, _read_full(folder), strategy)
        if mismatched:
            # Saving renames, splits or merges the parameters of some models. from_pretrained reverts this.
            cls: Any = type(model)
            dtype = reduce(torch.promote_types, {param.dtype for param in model.parameters()})
            with nullcontext() if strategy is None else strategy.reading_context():
                converted, info = cls.from_pretrained(folder, dtype=dtype, output_loading_info=True)
            # from_pretrained initializes missing weights, and drops unexpected ones.
            mismatched = sorted([*info["missing_keys"], *info["unexpected_keys"]])
            mismatched = mismatched or _load_full(model, converted.state_dict(), strategy)
    if mismatched:
        raise CheckpointError(
            f"{folder} belongs to another model ({len(mismatched)} parameter names differ, such as "
            f"{mismatched[0]!r})",
            key=str(folder),
            got=mismatched,
        )


def _load_adapter(model: PeftModel, weights: Mapping[str, Tensor], strategy: Strategy | None) -> list[str]:
    """Load the weights of an adapter, unless names differ; return the names that differ.

    Raises:
        RuntimeError: a shape differs.
    """
    if strategy is None or not strategy.params_are_sharded:
        live = get_peft_model_state_dict(model, save_embedding_layers=False)
        if not (mismatched := _different_names(live, weights)):
            set_peft_model_state_dict(model, weights)
        return mismatched
    trainable = [param for param in model.parameters() if param.requires_grad]
    with strategy.summon_full_params(trainable, write=True), torch.no_grad():
        # Not load_state_dict, whose hooks under FSDP2 need the sharded parameters.
        live = get_peft_model_state_dict(model, save_embedding_layers=False)
        if not (mismatched := _different_names(live, weights)):
            for name, tensor in weights.items():
                _check_shape(name, tensor.shape, live[name].shape)
                live[name].copy_(tensor)
    return mismatched


def _different_names(live: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names that only a model or only its saved weights have. A weight of two names may be saved once."""
    saved = {_storage_key(tensor) for name, tensor in live.items() if name in weights}
    missing = [
        name for name, tensor in live.items() if name not in weights and _storage_key(tensor) not in saved
    ]
    return [*missing, *(name for name in weights if name not in live)]


def _check_shape(name: str, saved: torch.Size, live: torch.Size) -> None:
    """Check the shape of a saved weight: copying would broadcast it.

    Raises:
        RuntimeError: it differs, as in ``load_state_dict``.
    """
    if saved != live:
        raise RuntimeError(f"size mismatch for {name}: {tuple(saved)} saved, {tuple(live)} in the model")


class _SavedWeights(Mapping[str, Tensor]):
    """Weights of a full model in safetensors files, each read when it is accessed."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files: dict[str, Path] = {}
        for path in files:
            with safe_open(path, "pt") as file:
                self._files |= dict.fromkeys(file.keys(), path)

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor."""
        with safe_open(self._files[name], "pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._files)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._files)


def _read_full(folder: Path) -> _SavedWeights:
    """Open the weight files of a full model that the manifest lists.

    Raises:
        CheckpointError: the manifest is missing or invalid, or lists no weight file.
    """
    names = sorted(read_manifest(folder))
    weights = _SavedWeights(
        [folder / name for name in names if name.startswith("model") and name.endswith(".safetensors")]
    )
    if not weights:
        raise CheckpointError(
            f"{folder} has no weights of a full model", key=str(folder), expected="model*.safetensors"
        )
    return weights


def _load_full(model: nn.Module, weights: Mapping[str, Tensor], strategy: Strategy | None) -> list[str]:
    """Load the weights whose names match; return the names that differ.

    Raises:
        RuntimeError: a shape differs.
    """
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    if strategy is None or not strategy.params_are_sharded:
        missing, unexpected = model.load_state_dict(dict(weights), strict=False)
        return [*(name for name in missing if name not in tied), *unexpected]
    # load_state_dict would compare full shapes with shapes of shards.
    live = model.state_dict(keep_vars=True)
    mismatched = [name for name in live if name not in weights and name not in tied]
    mismatched += [name for name in weights if name not in live]
    for name, tensor in live.items():
        if name not in weights:
            continue
        saved = weights[name]
        if isinstance(tensor, nn.Parameter):
            _check_shape(name, saved.shape, full_shape(tensor))
            strategy.load_full_param(tensor, saved)
        else:
            _check_shape(name, saved.shape, tensor.shape)
            tensor.copy_(saved)
    return mismatched
