"""Write the weights of a full model to the files of an ordinary model folder.

``save_pretrained`` converts all weights before it writes the first file: of a mixture of experts, whose fused weights it splits
into one tensor per expert, it makes a second copy. Here such a model is converted and written some layers at a time.
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

SMALLEST_FILE, LARGEST_FILE = 2**26, 2**32
"""Bytes that are converted together: 1/16 of the model, but no less and no more than these, and no less than a layer."""
_LAYER = re.compile(r"(.*?\.\d+)\.")


def write_model_files(model: PreTrainedModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write the weights of a full model, and other files that ``save_pretrained`` writes with one file of weights.

    Args:
        model: of transformers; its own weights are not read.
        weights: by the names of the model.
        folder: is made if it does not exist.
    """
    groups = _groups(model, weights)
    if len(groups) == 1:
        model.save_pretrained(folder, state_dict=dict(weights))
        return
    files: dict[str, str] = {}
    for number, names in enumerate(groups, 1):
        part = folder / f".part-{number}"
        model.save_pretrained(
            part, state_dict={name: weights[name] for name in names}, max_shard_size=2 * LARGEST_FILE
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
    """Return the names of weights that are converted together; one group of all if no weight is converted."""
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
    """Return the names of each layer, and of all other weights. Names of one tensor are together."""
    layers: dict[str, list[str]] = {}
    places: dict[tuple[int, int], str] = {}
    for name, weight in weights.items():
        match = _LAYER.match(name)
        place = places.setdefault((weight.data_ptr(), weight.nbytes), match[1] if match else "")
        layers.setdefault(place, []).append(name)
    return list(layers.values())


def _merge(layers: Sequence[list[str]], weights: Mapping[str, Tensor]) -> list[list[str]]:
    """Join neighbors to groups of bounded size."""
    sizes = [sum(weights[name].nbytes for name in names) for names in layers]
    limit = min(max(sum(sizes) // 16, SMALLEST_FILE), LARGEST_FILE)
    groups: list[list[str]] = [[]]
    filled = 0
    for names, size in zip(layers, sizes, strict=True):
        if groups[-1] and filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1] += names
        filled += size
    return groups
