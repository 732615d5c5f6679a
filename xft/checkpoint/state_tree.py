"""The state of a training as JSON and tensors: nothing in it can run code when it is read.

A tree of dicts, lists, tuples, numbers, texts and tensors is taken apart by ``pack`` and put
together again by ``unpack``. Tensors go into a safetensors file, the rest into JSON:

- a tensor is ``{"tensor": ITS_NAME_IN_THE_FILE}``,
- one that ranks have in shares is ``{"sharded": ITS_NAME_IN_EACH_FILE, "shape": [...]}`` (see ``shares.py``),
- a dict is ``{"items": [[KEY, VALUE], ...]}``, whose keys may be numbers,
- a tuple is ``{"tuple": [...]}``,
- lists, numbers, texts, true, false and null are themselves.
"""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xft.checkpoint.sharded import TensorShard

Shares = dict[str, tuple[int, Tensor]]
"""Of each tensor that ranks share, by its name: where this rank's share begins, and the share."""


def pack(
    value: Any,
    tensors: dict[str, Tensor],
    name: str,
    reuse: Mapping[str, Tensor] = MappingProxyType({}),
    shares: Shares | None = None,
) -> Any:
    """Take a tree apart.

    Args:
        value: the tree.
        tensors: receives a copy of each tensor on the host, by name.
        name: of the tree; the names of its tensors begin with it.
        reuse: copies of an earlier time, by name, that are written over; see ``to_host``.
        shares: receives a copy of this rank's share of each ``TensorShard`` tensor, by name.

    Returns:
        What JSON can hold.

    Raises:
        TypeError: something in the tree is of another kind.
    """
    if isinstance(value, TensorShard) and shares is not None:
        shares[name] = value.offset, to_host(value.local, reuse.get(name))
        return {"sharded": name, "shape": list(value.shape)}
    if isinstance(value, Tensor):
        tensors[name] = to_host(value, reuse.get(name))
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {
            "items": [
                [key, pack(each, tensors, f"{name}.{key}", reuse, shares)] for key, each in value.items()
            ]
        }
    if isinstance(value, (list, tuple)):
        packed = [
            pack(each, tensors, f"{name}.{number}", reuse, shares) for number, each in enumerate(value)
        ]
        return {"tuple": packed} if isinstance(value, tuple) else packed
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which a checkpoint cannot hold")


def unpack(value: Any, tensors: Mapping[str, Tensor], shared: Callable[[str, list[int]], Any]) -> Any:
    """Put together what ``pack`` took apart.

    Args:
        value: what ``pack`` returned.
        tensors: by name.
        shared: from the name and the shape of a tensor that ranks have in shares to what stands for it.

    Raises:
        LookupError: a tensor is missing, or the tree is not one of ``pack``.
    """
    if isinstance(value, list):
        return [unpack(each, tensors, shared) for each in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "sharded" in value:
        return shared(value["sharded"], value["shape"])
    if "tuple" in value:
        return tuple(unpack(each, tensors, shared) for each in value["tuple"])
    return {key: unpack(each, tensors, shared) for key, each in value["items"]}


def to_host(tensor: Tensor, reuse: Tensor | None = None) -> Tensor:
    """A copy in the memory of the host, in one piece, that training does not change.

    Args:
        tensor: on any device.
        reuse: an earlier copy, which is written over where it has the same shape and type: memory
            that is new to the process is several times slower to write to.
    """
    if reuse is not None and (reuse.shape, reuse.dtype) == (tensor.shape, tensor.dtype):
        return reuse.copy_(tensor.detach())
    return tensor.detach().to("cpu", copy=True).contiguous()


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every generator of random numbers that this process draws from.

    Args:
        device: of this process. Others are left alone: asking them would occupy their memory.
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


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put back what ``random_state`` gave."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"], device)
