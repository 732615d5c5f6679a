"""Refuse weights that are missing, unexpected, of another shape or not finite.

``from_pretrained`` of transformers fills missing weights with random numbers and drops unexpected ones; it reports both
only in ``loading_info``. Under ZeRO-3 it does not report unexpected weights.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from xft.errors import ModelError
from xft.models.param_shapes import local_shard, quant_state
from xft.models.reward_head import CLASSES, ModelKind, model_kind_of

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_complete(
    path: str,
    config: PretrainedConfig,
    kind: ModelKind,
    model: nn.Module,
    loading_info: Mapping[str, Iterable[Any]],
) -> None:
    """Check that the files of a model and the model have the same weights.

    Weights that transformers derives from others (tied weights) or declares superfluous are not in ``loading_info``.
    A reward model loaded from a language model gets a new head in place of the old one.

    Args:
        path: path of the model, for the message.
        config: transformers config of the folder.
        kind: kind that the model is loaded as.
        model: the loaded model.
        loading_info: second result of ``from_pretrained(..., output_loading_info=True)``.

    Raises:
        ModelError: weights are missing, unexpected or of another shape.
    """
    replaced = kind == "reward_model" and model_kind_of(config) == "causal_lm"
    new, old = ({"score"}, _heads(config)) if replaced else (set(), set())
    names = {
        "missing": [name for name in loading_info["missing_keys"] if _module(name) not in new],
        "unexpected": [name for name in loading_info["unexpected_keys"] if _module(name) not in old],
        "differently shaped": [
            *(name for name, *_ in loading_info["mismatched_keys"]),
            *_mismatched_quantized(model),
        ],
    }
    parts = [f"{len(some)} {what} weights such as {min(some)!r}" for what, some in names.items() if some]
    if parts:
        raise ModelError(
            key="model.path",
            got=f"{path} with {' and '.join(parts)}",
            expected="files with exactly the weights of the model that config.json describes",
            fix="copy or download the model again",
        )


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _mismatched_quantized(model: nn.Module) -> Iterator[str]:
    """Yield the quantized weights whose shape is not that of their layer, which transformers does not compare."""
    for name, module in model.named_modules():
        weight: Any = module.weight if isinstance(module, nn.Linear) else None
        state = quant_state(weight)
        if state is not None or hasattr(weight, "SCB"):
            shape = weight.shape if state is None else state.shape
            if tuple(shape) != (module.out_features, module.in_features):
                yield f"{name}.weight"


def _heads(config: PretrainedConfig) -> set[str]:
    """Return the names of the head modules of a language model."""
    classes = CLASSES["causal_lm"]
    tied = classes[type(config)]._tied_weights_keys if type(config) in classes else None
    return {"lm_head", *map(_module, tied or ())}


def nonfinite_names(weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Return the names of weights with NaN or infinity. One pass over the memory, one synchronization with the device."""
    names, flags = [], []
    for name, weight in weights:
        for values in _floats(weight):
            low, high = torch.aminmax(values.detach())  # many times as fast as isfinite() of all values
            names.append(name)
            flags.append(low.isfinite() & high.isfinite())
    finite = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist() if flags else []
    return [name for name, ok in zip(names, finite, strict=True) if not ok]


def check_finite(path: str, weights: Iterable[tuple[str, Tensor]], key: str = "model.path") -> None:
    """Check that no weight is NaN or infinite.

    Args:
        path: path of the model, for the message.
        weights: weights by name.
        key: key of the error.

    Raises:
        ModelError: some weights are not finite.
    """
    bad = nonfinite_names(weights)
    if bad:
        raise ModelError(
            key=key,
            got=f"{path} with NaN or infinity in {len(bad)} weights, first in {bad[0]!r}",
            expected="finite weights",
            fix="copy or download the model again, or use the dtype that it was saved in",
        )


def check_files_finite(path: str, source: str, rank: int = 0, world_size: int = 1) -> None:
    """Check the weights in safetensors files, which quantization may turn into finite numbers.

    Args:
        path: path of the model, for the message.
        source: folder or hub name of a model that was loaded before.
        rank: rank of this process, of those that share the work.
        world_size: number of ranks, each of which checks a part of the weights.

    Raises:
        ModelError: some weights are not finite.
    """
    for file in _weight_files(source):
        with safe_open(file, framework="pt") as tensors:
            names = sorted(tensors.keys())[rank::world_size]
            check_finite(path, ((name, tensors.get_tensor(name)) for name in names))


def _weight_files(source: str) -> list[Path]:
    options: dict[str, Any] = {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
    if file := cached_file(source, SAFE_WEIGHTS_NAME, **options):
        return [Path(file)]
    if file := cached_file(source, SAFE_WEIGHTS_INDEX_NAME, **options):
        index = json.loads(Path(file).read_text(encoding="utf-8"))
        return [Path(file).parent / name for name in sorted(set(index["weight_map"].values()))]
    return []


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of a model by name; of sharded ones, the shard of this rank."""
    for name, param in model.named_parameters():
        yield name, param if quant_state(param) is not None else local_shard(param)


def _floats(weight: Tensor) -> Iterator[Tensor]:
    """Yield the tensors of floats that a weight consists of; the scales of a quantized one."""
    state = quant_state(weight)
    parts = [weight, getattr(weight, "SCB", None)]
    if state is not None:  # packed numbers may be stored as bf16
        parts = [state.absmax, state.offset]
    for part in parts:
        if isinstance(part, Tensor) and part.dtype in _FLOATS and part.numel():
            yield part
