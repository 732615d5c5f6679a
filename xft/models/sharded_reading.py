"""Read the weights of a model by slices: each rank keeps its rows of each parameter, and no others.

transformers reads a slice of a tensor if the parameter that receives it is a DTensor (``from_pretrained`` with its own
FSDP). Here the parameters become DTensors without hooks, as an adapter is attached before the strategy shards the model.
A parameter that is not stored by rows is read in full, and cut before the next one is read.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel, core_model_loading
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter, WeightTransform
from transformers.modeling_utils import LoadStateDictConfig
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.utils.quantization_config import QuantizationMethod

from xft.distributed.sharded import rows_of_rank
from xft.models.param_shapes import keep_quantization, quant_state
from xft.models.reward_head import HEAD
from xft.utils.memory import release_freed_memory

BLOCK = 64
"""Elements that NF4 quantizes together."""
_IS_SYNCHRONOUS = "HF_DEACTIVATE_ASYNC_LOAD"
"""Environment variable of transformers."""


@contextmanager
def sharded_reading(make_mesh: Callable[[], DeviceMesh]) -> Iterator[None]:
    """Make ``from_pretrained`` keep the rows of this rank only.

    It reads these rows and no others where they are rows of stored tensors, or stored experts. Parameters that are
    computed from several stored ones in another way, and NF4 weights whose rows do not start at a block of the
    quantization, are read in full, one at a time. The head of a reward model is full on each rank until it is read or
    initialized. Models in int8, GPTQ and AWQ are read in full.

    Args:
        make_mesh: returns all ranks in one dimension, on the device type of the weights.
    """
    original = PreTrainedModel._load_pretrained_model

    def load(
        model: PreTrainedModel,
        state_dict: dict[str, Tensor] | None,
        checkpoint_files: list[str] | None,
        load_config: LoadStateDictConfig,
    ) -> object:
        if not _can_shard(load_config.hf_quantizer):
            return original(model, state_dict, checkpoint_files, load_config)
        mesh = make_mesh()
        read_in_full = _names_read_in_full(model, load_config, mesh.size())
        # A head that the files lack is drawn from the seed, in full on each rank.
        head = {name for name, _ in model.named_parameters() if name.startswith(f"{HEAD}.")}
        shard_meta_parameters(model, mesh, read_in_full | head)
        # Rows that stay pages of a file keep all pages of it that were read. Threads that read ahead of such copies
        # keep memory that they have freed, up to a tenth of the model.
        copies = load_config.hf_quantizer is not None or bool(_converters(load_config))
        with _rows_kept(mesh, copies, reads_ahead=not (read_in_full or copies)):
            return original(model, state_dict, checkpoint_files, load_config)

    with _replaced(PreTrainedModel, "_load_pretrained_model", staticmethod(load), staticmethod(original)):
        yield


@contextmanager
def _replaced(owner: object, name: str, value: object, original: object) -> Iterator[None]:
    """Replace an attribute of a class or a module inside the context."""
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _can_shard(quantizer: HfQuantizer | None) -> bool:
    """Return whether the parameters of a model are plain tensors, dequantized or not, or NF4 weights."""
    if quantizer is None or isinstance(quantizer, Bnb4BitHfQuantizer):
        return True
    config = quantizer.quantization_config
    return bool(vars(config).get("dequantize")) and config.quant_method != QuantizationMethod.GGUF


def _converters(load_config: LoadStateDictConfig) -> list[WeightConverter]:
    return [entry for entry in load_config.weight_mapping or [] if isinstance(entry, WeightConverter)]


def _names_read_in_full(
    model: PreTrainedModel, load_config: LoadStateDictConfig, world_size: int
) -> set[str]:
    """Return the parameters of which a rank cannot read its rows alone."""
    converters = _converters(load_config)
    stacked = [_targets(entry) for entry in converters if _stacks_experts(entry)]
    computed = [_targets(entry) for entry in converters if not _stacks_experts(entry)]
    quantizer = load_config.hf_quantizer
    if quantizer is not None and quantizer.pre_quantized:
        quantizer = None
    names = set()
    for name, param in model.named_parameters():
        rows = param.shape[0] if param.ndim else 0
        is_computed = any(matches(name) for matches in computed)
        # Experts are stacked in a list, which must not be empty.
        lacks_experts = any(matches(name) for matches in stacked) and _last_rank_is_empty(rows, world_size)
        is_cut_inside_block = (
            quantizer is not None
            and quantizer.param_needs_quantization(model, name)
            and not _splits_at_blocks(model, name, param, world_size)
        )
        if is_computed or lacks_experts or is_cut_inside_block:
            names.add(name)
    return names


def _stacks_experts(converter: WeightConverter) -> bool:
    """Return whether rows of a parameter are stored experts, one tensor or several for each."""
    first, *others = converter.operations
    return (
        isinstance(first, MergeModulelist)
        and first.dim == 0
        and all(isinstance(operation, Concatenate) and operation.dim > 0 for operation in others)
    )


def _targets(converter: WeightConverter) -> Callable[[str], bool]:
    """Return a function that tells whether a converter computes a parameter of the model, by its name."""
    reverse = WeightTransform(
        [*converter._original_target_patterns], [*converter._original_source_patterns]
    )
    reverse.scope_prefix, reverse.base_model_prefix = converter.scope_prefix, converter.base_model_prefix
    return lambda name: reverse.rename_source_key(name)[1] is not None


def _last_rank_is_empty(rows: int, world_size: int) -> bool:
    start, stop = rows_of_rank(rows, world_size - 1, world_size)
    return start == stop


def _splits_at_blocks(model: nn.Module, name: str, param: Tensor, world_size: int) -> bool:
    """Return whether the rows of each rank are whole blocks, as many as those of any other rank."""
    module = model.get_submodule(name.rpartition(".")[0])
    is_transposed = vars(module).get("source_cls", nn.Linear) is not nn.Linear
    is_even = param.shape[0] % world_size == 0
    return is_even and not is_transposed and param.numel() // world_size % BLOCK == 0


@contextmanager
def _rows_kept(mesh: DeviceMesh, copies: bool, reads_ahead: bool) -> Iterator[None]:
    """Cut parameters that were read in full when transformers sets them.

    Args:
        mesh: all ranks.
        copies: copy rows that were read alone, which are pages of a file.
        reads_ahead: read tensors before they are needed.
    """
    original: Callable[..., None] = core_model_loading.set_param_for_module

    def set_rows(model: nn.Module, target_name: str, value: Tensor, *rest: object) -> None:
        path, _, name = target_name.rpartition(".")
        module = model.get_submodule(path)
        param = module._parameters.get(name)
        if isinstance(value, DTensor):  # rows that are quantized already: their shape is another
            assert param is not None
            module._parameters[name] = nn.Parameter(torch.empty(param.shape, device="meta"))
        elif param is not None and param.ndim and not isinstance(param, DTensor):
            value = shard_rows(value, mesh)
            release_freed_memory()
        elif copies and param is not None:
            value = value.clone()
        original(model, target_name, value, *rest)

    with (
        _replaced(core_model_loading, "set_param_for_module", set_rows, original),
        _reading_ahead(reads_ahead),
    ):
        yield


@contextmanager
def _reading_ahead(enabled: bool) -> Iterator[None]:
    """Stop the threads of transformers that read tensors before they are needed, unless enabled."""
    before = os.environ.get(_IS_SYNCHRONOUS)
    if not enabled:
        os.environ[_IS_SYNCHRONOUS] = "1"
    try:
        yield
    finally:
        if not enabled:
            del os.environ[_IS_SYNCHRONOUS]
            os.environ |= {} if before is None else {_IS_SYNCHRONOUS: before}


def shard_rows(value: Tensor, mesh: DeviceMesh) -> nn.Parameter:
    """Return a parameter with a copy of this rank's rows of a full tensor, which may be quantized."""
    start, stop = rows_of_rank(len(value), mesh.get_local_rank(), mesh.size())
    full = value.detach().as_subclass(Tensor)
    requires_grad = full.is_floating_point() and quant_state(value) is None
    param = make_sharded(full[start:stop].clone(), mesh, full.shape, requires_grad)
    keep_quantization(value, param)
    return param


def make_sharded(
    rows: Tensor, mesh: DeviceMesh, shape: torch.Size, requires_grad: bool = False
) -> nn.Parameter:
    """Return a parameter of a full shape from the rows of this rank."""
    stride = torch.empty(shape, device="meta").stride()
    sharded = DTensor.from_local(rows, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)
    return nn.Parameter(sharded, requires_grad=requires_grad)


def shard_meta_parameters(model: nn.Module, mesh: DeviceMesh, excluded: set[str] | None = None) -> None:
    """Replace parameters on the meta device by DTensors that are split by rows.

    Args:
        model: modules of which some are on the meta device.
        mesh: all ranks in one dimension.
        excluded: names of parameters that stay as they are.
    """
    kept = {id(model.get_parameter(name)) for name in excluded or ()}
    replaced: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, param in module._parameters.items():
            if param is None or not param.is_meta or param.ndim == 0 or id(param) in kept:
                continue
            if id(param) not in replaced:
                start, stop = rows_of_rank(len(param), mesh.get_local_rank(), mesh.size())
                rows = torch.empty((stop - start, *param.shape[1:]), dtype=param.dtype, device="meta")
                replaced[id(param)] = make_sharded(rows, mesh, param.shape, param.requires_grad)
            module._parameters[name] = replaced[id(param)]


def reading_ranks(model: nn.Module) -> tuple[int, int]:
    """Return this process's rank and the number of ranks that have read a model together."""
    meshes = (param.device_mesh for param in model.parameters() if isinstance(param, DTensor))
    mesh = next(meshes, None)
    return (0, 1) if mesh is None else (mesh.get_local_rank(), mesh.size())


def full_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module with full parameters, or the module if it has no DTensors. Collective."""
    full = {}
    for param in module.parameters():
        if isinstance(param, DTensor):
            full[id(param)] = nn.Parameter(full_tensor(param), requires_grad=False)
            keep_quantization(param, full[id(param)])
    return deepcopy(module, full) if full else module


def gather_modules(model: nn.Module, modules: Iterable[nn.Module]) -> None:
    """Replace the DTensors of some modules by full parameters, which ``fully_shard`` shards again. Collective.

    Modules of the model that share these parameters share the full ones too.
    """
    shared = {
        id(param) for module in modules for param in module.parameters() if isinstance(param, DTensor)
    }
    full: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, param in module._parameters.items():
            if id(param) in shared:
                if id(param) not in full:
                    full[id(param)] = _full_parameter(param)
                module._parameters[name] = full[id(param)]


@contextmanager
def full_weights_of(layer: nn.Module) -> Iterator[None]:
    """Gather the parameters that a layer holds itself inside the context, in which they must not change. Collective."""
    sharded = {name: param for name, param in layer._parameters.items() if isinstance(param, DTensor)}
    layer._parameters.update({name: _full_parameter(param) for name, param in sharded.items()})
    try:
        yield
    finally:
        layer._parameters.update(sharded)
        if sharded:
            release_freed_memory()


def _full_parameter(param: Tensor | None) -> nn.Parameter:
    assert isinstance(param, DTensor)
    return nn.Parameter(full_tensor(param), requires_grad=param.requires_grad)


def full_tensor(param: DTensor) -> Tensor:
    """Return the full tensor of a parameter, without a gradient. Collective."""
    with torch.no_grad():
        return param.full_tensor()
