"""Find the modules of a tiny model that mix samples of a flat batch."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from xft.models.segments import SegmentedClass, run_batched, run_each

TOLERANCE = 1e-8
_Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]


def leaking_modules(model: PreTrainedModel, arguments: dict[str, Any]) -> list[SegmentedClass]:
    """Return the classes of modules that get the lengths of samples, and give another result for each sample alone.

    Only the innermost modules that get the lengths are compared. A whole layer is not computed in batches, since
    routers of experts would see padding.

    Args:
        model: a tiny model.
        arguments: of its forward call, with ``seq_lens``.

    Raises:
        Exception: the comparison itself fails. An error of the model ends its forward pass only.
    """
    receivers: set[str] = set()
    leaking: set[str] = set()
    batched: dict[str, bool] = {}
    names = {module: name for name, module in model.named_modules()}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs.get("seq_lens") is not None and names[module]:
            receivers.add(names[module])

    def compare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = names[module]
        inner = any(receiver.startswith(f"{name}.") for receiver in receivers)
        if name in receivers and not inner:
            key = type(module).__name__
            result = _compare(module, args, kwargs)
            batched[key] = result.batched and batched.get(key, True)
            leaking.update([key] if result.leaks else [])

    failures: list[Exception] = []

    def watch(hook: _Hook, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            hook(module, args, kwargs)
        except Exception as error:
            failures.append(error)
            raise

    for hook in (note, compare):
        watched = partial(watch, hook)
        handles = [
            module.register_forward_pre_hook(watched, with_kwargs=True) for module in model.modules()
        ]
        try:
            model(**arguments, use_cache=False)
        except Exception as error:  # noqa: BLE001
            # A module that fails on the flat batch has been noted before.
            logging.getLogger(__name__).debug("forward pass ended: %s", error)
        finally:
            for handle in handles:
                handle.remove()
        if failures:
            raise failures[0]
    return [SegmentedClass(name, batched[name]) for name in sorted(leaking)]


@dataclass(frozen=True)
class _Comparison:
    """Whether a module mixes samples, and whether samples computed in batches give the result of each alone."""

    leaks: bool
    batched: bool


def _compare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Comparison:
    options = {name: value for name, value in kwargs.items() if name != "seq_lens"}
    lengths = kwargs["seq_lens"]
    try:
        expected = _first(run_each(module.forward, lengths, args, options))
    except Exception:  # noqa: BLE001  Any module of transformers may fail in any way on a part of its input.
        return _Comparison(leaks=False, batched=False)
    batched = partial(run_batched, module.forward, lengths, args, options)
    return _Comparison(
        leaks=not _equals(partial(module.forward, *args, **kwargs), expected),
        batched=not isinstance(module, GradientCheckpointingLayer) and _equals(batched, expected),
    )


def _equals(compute: Callable[[], Any], expected: Tensor) -> bool:
    try:
        return torch.allclose(
            _first(compute()), expected, rtol=0, atol=TOLERANCE * float(expected.abs().max())
        )
    except Exception:  # noqa: BLE001
        return False


def _first(output: Any) -> Tensor:
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor
