"""Compute a module on each sample of a flat batch by itself.

Layers with a state over tokens (convolutions, state-space and linear attention layers), and attention whose positions
start at the beginning of the row, mix samples that share a row. Where a model passes the lengths of the samples down to
such a module, it gets a subclass of its class that computes each sample by itself. Names, weights and files stay the
same. :mod:`xft.models.checks` measures which modules need it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

MULTIPLE = 64
"""Samples are padded to multiples of this length, those of equal length are computed together.

Chunks of linear attention and state-space layers of transformers have this size or a multiple of it."""


@dataclass(frozen=True)
class SegmentedClass:
    """A class of modules that is computed sample by sample.

    Attributes:
        name: name of the class.
        batched: samples of about equal length are computed together, padded on the right. The module is causal and
            has no attention.
    """

    name: str
    batched: bool


def segment_modules(model: nn.Module, classes: Iterable[SegmentedClass]) -> None:
    """Compute the modules of some classes sample by sample. Modules that are already stay as they are."""
    by_name = {segmented.name: segmented for segmented in classes}
    for module in model.modules():
        segmented = by_name.get(type(module).__name__)
        if segmented is not None and type(module).__module__ != __name__:
            original: object = type(module)
            module.__class__ = _segmented(original, segmented.batched)


def has_length_dependent_rope(model: nn.Module) -> bool:
    """Return whether the rotary embedding depends on the length of a sample, as ``dynamic`` and ``longrope`` do."""
    return any(_depends_on_length(module) for module in model.modules())


def separate_rotary_embeddings(model: nn.Module) -> None:
    """Compute rotary embeddings that depend on the length of a sample for each sample by itself.

    transformers takes the frequencies from the largest position of the whole batch, and ``dynamic`` keeps those of
    the longest sample since the model was loaded. Samples are told apart by their positions, which begin at 0.
    """
    for module in model.modules():
        if _depends_on_length(module) and type(module).__module__ != __name__:
            original: object = type(module)
            module.__class__ = _separate_rotary(original)


def _depends_on_length(module: nn.Module) -> bool:
    kinds = vars(module).get("rope_type")
    names = kinds.values() if isinstance(kinds, dict) else [kinds]
    return any(isinstance(name, str) and (name == "longrope" or "dynamic" in name) for name in names)


@cache
def _separate_rotary(original: Any) -> Any:
    def of_sample(self: Any, x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        # dynamic: start from the frequencies of the config, as for the first sample of a loaded model.
        kinds = self.rope_type if isinstance(self.rope_type, dict) else {"": self.rope_type}
        for layer_type, kind in kinds.items():
            if "dynamic" in kind:
                prefix = f"{layer_type}_" if layer_type else ""
                initial = self.get_buffer(f"{prefix}original_inv_freq")
                self.register_buffer(f"{prefix}inv_freq", initial.to(x.device), persistent=False)
                setattr(self, f"{prefix}max_seq_len_cached", self.original_max_seq_len)
        return original.forward(self, x, position_ids, *args, **kwargs)

    def forward(self: object, x: Tensor, position_ids: Tensor, *args: object, **kwargs: object) -> Any:
        # M-RoPE has (3, batch, seq) positions and, in some families, (3, batch, seq, dim) embeddings: dimensions are
        # counted from the end.
        rows = []
        for row in position_ids.split(1, dim=-2):
            is_zero = (row == 0).reshape(-1, row.shape[-1]).all(dim=0)
            begins = is_zero[1:] & ~is_zero[:-1]
            ends = [*(begins.nonzero()[:, 0] + 1).tolist(), row.shape[-1]]
            samples = row.split(torch.tensor([0, *ends]).diff().tolist(), dim=-1)
            rows.append(_join([of_sample(self, x, sample, *args, **kwargs) for sample in samples], dim=-2))
        return _join(rows, dim=-3)

    return type(original.__name__, (original,), {"forward": forward, "__module__": __name__})


@cache
def _segmented(original: Any, batched: bool) -> Any:
    # Its loops follow the lengths of the samples: a compiled layer (compiled_layers.py) calls it between two parts.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self: Any, *args: Any, seq_lens: Sequence[int] | None = None, **kwargs: Any) -> Any:
        compute = partial(original.forward, self)
        if seq_lens is None:
            return compute(*args, **kwargs)
        run = run_batched if batched else run_each
        return run(compute, seq_lens, args, kwargs)

    # The name of the class stays: transformers records outputs of modules by the names of their classes.
    return type(original.__name__, (original,), {"forward": forward, "__module__": __name__})


def run_each(
    compute: Callable[..., Any], seq_lens: Sequence[int], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a forward pass once for each sample, with its length as ``seq_lens``, and concatenate the results.

    Args:
        compute: forward pass of a module.
        seq_lens: lengths of the samples.
        args: arguments for the row of all samples; tensors ``(1, seq, ...)`` and positions ``(3, 1, seq)`` are split.
        kwargs: the same by name; the attention mask is left out.

    Raises:
        ValueError: the row is only a part of a sequence-parallel batch.
    """
    outputs, begin = [], 0
    for length in seq_lens:
        part = _Rows(seq_lens, [begin], length)
        arguments, options = part.take(args, kwargs)
        outputs.append(compute(*arguments, seq_lens=[length], **options))
        begin += length
    return _join(outputs)


def run_batched(
    compute: Callable[..., Any], seq_lens: Sequence[int], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a causal forward pass for samples of about equal length together, as :func:`run_each`."""
    begins = torch.tensor([0, *seq_lens]).cumsum(0).tolist()[:-1]
    groups: dict[int, list[int]] = {}
    for sample, length in enumerate(seq_lens):
        groups.setdefault(-(-length // MULTIPLE), []).append(sample)
    outputs: list[Any] = [None] * len(seq_lens)
    kwargs = {name: value for name, value in kwargs.items() if name != "kernels"}
    for samples in groups.values():
        longest = max(seq_lens[sample] for sample in samples)
        part = _Rows(seq_lens, [begins[sample] for sample in samples], longest)
        arguments, options = part.take(args, kwargs)
        result = compute(*arguments, **options)
        for row, sample in enumerate(samples):
            outputs[sample] = _map(result, partial(_cut, row, seq_lens[sample]))
    return _join(outputs)


def _cut(row: int, length: int, tensor: Tensor) -> Tensor:
    return tensor[row : row + 1, :length]


class _Rows:
    """Some samples of a flat batch as rows of a batch."""

    def __init__(self, seq_lens: Sequence[int], begins: Sequence[int], length: int) -> None:
        self._lengths = dict(zip(torch.tensor([0, *seq_lens]).cumsum(0).tolist(), seq_lens, strict=False))
        self._total, self._begins, self._length = sum(seq_lens), begins, length

    def take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of these samples."""
        if kwargs.get("sequence") is not None:
            raise ValueError("a sample is split over ranks, and this layer needs all of its tokens")
        return _map(args, self._rows), {
            name: None if name == "attention_mask" else _map(value, self._rows)
            for name, value in kwargs.items()
        }

    def _rows(self, tensor: Tensor) -> Tensor | None:
        if tensor.numel() == 0:
            return None  # The placeholder of a mask.
        if tensor.shape[:2] == (1, self._total):
            dim = 1
        elif tensor.ndim == 3 and tensor.shape[1:] == (1, self._total):
            dim = 2  # Positions of M-RoPE.
        else:
            return tensor
        rows = []
        for begin in self._begins:
            row = tensor.narrow(dim, begin, self._lengths[begin])
            missing = self._length - row.shape[dim]
            rows.append(pad(row, (0, 0) * (row.ndim - dim - 1) + (0, missing)) if missing else row)
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=dim - 1)


def _map(value: Any, function: Callable[[Tensor], Tensor | None]) -> Any:
    """Apply a function to the tensors of an argument, also of those in tuples."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)(_map(element, function) for element in value)
    return value


def _join(outputs: Sequence[Any], dim: int = 1) -> Any:
    """Concatenate the results of samples along the tokens; of what is not a tensor, the first stands for all."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(list(outputs), dim=dim)
    if isinstance(first, tuple):
        return tuple(_join(elements, dim) for elements in zip(*outputs, strict=True))
    return first
