"""Write the weights of a full model in the format of ``save_pretrained``, with less memory.

Some models are saved under other names and shapes: of a mixture of experts, the fused weights are split into one tensor per
expert. ``save_pretrained`` converts all weights before it writes the first file, which takes memory for a second copy. This
module converts and writes such a model in groups of layers.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

MIN_GROUP_BYTES, MAX_GROUP_BYTES = 2**26, 2**32
"""Target group size: 1/16 of the model, clamped to [64 MiB, 4 GiB]; a larger layer forms its own group."""
_LAYER = re.compile(r"(.*?\.\d+)\.")


def write_model_files(model: PreTrainedModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write the weights of a full model to ``model*.safetensors``, and the other files of ``save_pretrained``.

    If no weight is converted, this is a single call of ``save_pretrained``. Otherwise, each group of layers is one file.

    Args:
        model: model of transformers, for its class and config; its parameters are not read.
        weights: weights by parameter name of the model.
        folder: output folder; it is created if it does not exist.

    Raises:
        OSError, SafetensorError: a file cannot be written to disk.
    """
    groups = _groups(model, weights)
    if len(groups) == 1:
        model.save_pretrained(folder, state_dict=dict(weights))
        return
    files: dict[str, str] = {}
    for number, names in enumerate(groups, 1):
        part = folder / f".part-{number}"
        model.save_pretrained(
            part, state_dict={name: weights[name] for name in names}, max_shard_size=2 * MAX_GROUP_BYTES
        )
        file = folder / f"model-{number:05}-of-{len(groups):05}.safetensors"
        (part / SAFE_WEIGHTS_NAME).rename(file)
        shutil.rmtree(part)
        with safe_open(file, "pt") as tensors:
            files |= dict.fromkeys(tensors.keys(), file.name)
    size = sum((folder / name).stat().st_size for name in set(files.values()))
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(files.items()))}
    (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _groups(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> list[list[str]]:
    """Group the names of weights that are converted together.

    All are one group if no weight is converted, or if the groups would not convert to the same names as all weights.
    """
    empty = {name: torch.empty_like(weight, device="meta") for name, weight in weights.items()}
    everything = [[*weights]]
    converted = revert_weight_conversion(model, empty)
    if converted.keys() == empty.keys():
        return everything
    groups = _merge(_layers(weights), weights)
    names = [
        name
        for group in groups
        for name in revert_weight_conversion(model, {key: empty[key] for key in group})
    ]
    return groups if sorted(names) == sorted(converted) else everything


def _layers(weights: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the weight names of each layer, and those of all other weights. Tied weights are in the same list."""
    layers: dict[str, list[str]] = {}
    layer_of_storage: dict[tuple[int, int], str] = {}
    for name, weight in weights.items():
        match = _LAYER.match(name)
        storage = weight.data_ptr(), weight.nbytes
        layer = layer_of_storage.setdefault(storage, match[1] if match else "")
        layers.setdefault(layer, []).append(name)
    return list(layers.values())


def _merge(layers: Sequence[list[str]], weights: Mapping[str, Tensor]) -> list[list[str]]:
    """Merge consecutive layers into groups of at most the target group size; a larger layer is a group."""
    sizes = [sum(weights[name].nbytes for name in names) for names in layers]
    limit = min(max(sum(sizes) // 16, MIN_GROUP_BYTES), MAX_GROUP_BYTES)
    groups: list[list[str]] = [[]]
    filled = 0
    for names, size in zip(layers, sizes, strict=True):
        if groups[-1] and filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1] += names
        filled += size
    return groups
