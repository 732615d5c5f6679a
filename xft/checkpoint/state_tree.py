"""Convert training state to JSON and tensors, and back. Loading it runs no code.

``flatten_state`` splits a tree of dicts, lists, tuples, numbers, strings and tensors. ``unflatten_state``
rebuilds the tree. Tensors are stored in a safetensors file, everything else in JSON:

- a tensor is ``{"tensor": NAME_IN_THE_FILE}``,
- a sharded tensor is ``{"sharded": NAME_IN_EACH_FILE, "shape": [...]}`` (see ``shards.py``),
- a dict is ``{"items": [[KEY, VALUE], ...]}``, so that keys can be numbers,
- a tuple is ``{"tuple": [...]}``,
- lists, numbers, strings, booleans and null are stored unchanged.
"""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xft.distributed.sharded import TensorShard

LocalShards = dict[str, tuple[int, Tensor]]
"""Offset and elements of this rank's shard of each sharded tensor, by tensor name."""


def flatten_state(
    value: object,
    tensors: dict[str, Tensor],
    name: str,
    reuse: Mapping[str, Tensor] = MappingProxyType({}),
    shards: LocalShards | None = None,
) -> Any:
    """Split a tree into JSON and tensors.

    Args:
        value: the tree.
        tensors: receives a CPU copy of each tensor by name.
        name: name of the tree, a prefix of its tensors' names.
        reuse: earlier CPU copies by name, which are overwritten; see ``copy_to_cpu``.
        shards: receives a CPU copy of this rank's shard of each ``TensorShard`` by name.

    Returns:
        A value that JSON can store.

    Raises:
        TypeError: the tree contains a value of an unsupported type.
    """
    if isinstance(value, TensorShard) and shards is not None:
        shards[name] = value.offset, copy_to_cpu(value.local, reuse.get(name))
        return {"sharded": name, "shape": list(value.shape)}
    if isinstance(value, Tensor):
        tensors[name] = copy_to_cpu(value, reuse.get(name))
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {
            "items": [
                [key, flatten_state(item, tensors, f"{name}.{key}", reuse, shards)]
                for key, item in value.items()
            ]
        }
    if isinstance(value, (list, tuple)):
        items = [
            flatten_state(item, tensors, f"{name}.{index}", reuse, shards)
            for index, item in enumerate(value)
        ]
        return {"tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which a checkpoint cannot store")


def unflatten_state(
    value: object, tensors: Mapping[str, Tensor], open_shards: Callable[[str, list[int]], Any]
) -> Any:
    """Rebuild a tree that ``flatten_state`` split.

    Args:
        value: the JSON part.
        tensors: the tensors by name.
        open_shards: maps name and shape of a sharded tensor to its replacement in the tree.

    Raises:
        LookupError: a tensor is missing, or the JSON was not written by ``flatten_state``.
    """
    if isinstance(value, list):
        return [unflatten_state(item, tensors, open_shards) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "sharded" in value:
        return open_shards(value["sharded"], value["shape"])
    if "tuple" in value:
        return tuple(unflatten_state(item, tensors, open_shards) for item in value["tuple"])
    return {key: unflatten_state(item, tensors, open_shards) for key, item in value["items"]}


def copy_to_cpu(tensor: Tensor, reuse: Tensor | None = None) -> Tensor:
    """Copy a tensor to contiguous CPU memory that training does not modify.

    Args:
        tensor: on any device.
        reuse: an earlier copy, which is overwritten if shape and dtype match: writing to freshly
            allocated memory is several times slower.
    """
    if reuse is not None and (reuse.shape, reuse.dtype) == (tensor.shape, tensor.dtype):
        return reuse.copy_(tensor.detach())
    return tensor.detach().to("cpu", copy=True).contiguous()


def get_rng_state(device: torch.device) -> dict[str, Any]:
    """Return the state of all random number generators of this process.

    Args:
        device: device of this process. Other devices are not queried: that would allocate memory on them.
    """
    version, numbers, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, *rest = numpy_state
    return {
        "python": (version, torch.tensor(numbers, dtype=torch.int64), gauss),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device),
    }


def set_rng_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore a state that ``get_rng_state`` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"], device)
