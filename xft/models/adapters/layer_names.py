"""Check the layer names in the config of an adapter before peft, which ignores names that match nothing."""

import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from torch import nn
from transformers import PreTrainedModel

from xft.errors import ConfigError, did_you_mean
from xft.models.experts import find_experts
from xft.models.param_shapes import quant_state

ALL_LINEAR = "all-linear"
SHORTHANDS = (ALL_LINEAR, "attention", "experts", "all")
"""Values of ``target_modules`` that are no names."""
REGEX_LIMIT_S = 5.0
"""Seconds in which a regular expression must have matched all layer names. Usual ones take a millisecond."""


def check_layer_names(
    model: PreTrainedModel, target_modules: str | Sequence[str], modules_to_save: Sequence[str]
) -> None:
    """Check that each entry matches a layer, by the rules of peft, or a fused weight of experts.

    Raises:
        ConfigError: an entry matches no layer, is a regular expression that is invalid or too slow, or asks for full
            training of a quantized layer.
    """
    layers = [name for name, _ in model.named_modules() if name]
    experts = find_experts(model)
    layers += [] if experts is None else experts.parameters
    for key, entries in (("target_modules", target_modules), ("modules_to_save", modules_to_save)):
        if isinstance(entries, str):
            if entries.lower() not in SHORTHANDS:
                _check_regex(f"adapter.{key}", entries, layers)
            continue
        for entry in entries:
            if not any(is_match(entry, layer) for layer in layers):
                known = layers if "." in entry else {layer.rpartition(".")[2] for layer in layers}
                raise ConfigError(
                    key=f"adapter.{key}",
                    got=entry,
                    expected="the name of a layer of the model, or the end of its path",
                    fix=did_you_mean(entry, known),
                )
    _check_not_quantized(model, modules_to_save)


def _check_not_quantized(model: PreTrainedModel, modules_to_save: Sequence[str]) -> None:
    for name, module in model.named_modules():
        matched = any(is_match(entry, name) for entry in modules_to_save)
        if matched and any(
            quant_state(param) or not param.is_floating_point() for param in module.parameters()
        ):
            raise ConfigError(
                key="adapter.modules_to_save",
                got=name,
                expected="modules without quantized weights, which cannot be trained",
                fix="name it in adapter.target_modules, or set quantization=None",
            )


def is_match(entry: str, layer: str) -> bool:
    """Return whether an entry is a layer's path, or the end of it."""
    return layer == entry or layer.endswith(f".{entry}")


def _check_regex(key: str, pattern: str, layers: Sequence[str]) -> None:
    try:
        with _time_limit(REGEX_LIMIT_S):
            matched = [layer for layer in layers if re.fullmatch(pattern, layer)]
    except re.error as error:
        raise ConfigError(
            key=key, got=pattern, expected=f"a list of names or a regular expression ({error})"
        ) from error
    except TimeoutError as error:
        raise ConfigError(
            key=key,
            got=pattern,
            expected=f"a regular expression that matches all layer names in {REGEX_LIMIT_S:g} s",
            fix="write a list of names, or avoid nested repetitions",
        ) from error
    if not matched:
        words = re.findall(r"\w+", pattern)
        names = [word for word in words if any(is_match(word, layer) for layer in layers)]
        raise ConfigError(
            key=key,
            got=pattern,
            expected="a regular expression that matches the full path of a layer, or a list of names",
            fix=f'write "{key}={names}"' if names and names == words else "",
        )


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the body after some seconds. Only the main thread has a limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def trainable_tokens(
    model: PreTrainedModel,
    new_tokens: Sequence[int],
    target_modules: str | Sequence[str],
    modules_to_save: Sequence[str],
) -> list[int] | None:
    """Return the new tokens whose embeddings must be trained in addition to the layers of the adapter.

    Raises:
        ConfigError: the adapter has the embedding, or a head that shares its weight, in a way that peft cannot combine
            with new tokens.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embedding.weight
    places = {layer: name for name, layer in model.named_modules()}

    def is_in(entries: str | Sequence[str], layer: nn.Module) -> bool:
        name = places[layer]
        if isinstance(entries, str):
            return entries.lower() not in SHORTHANDS and re.fullmatch(entries, name) is not None
        return any(is_match(entry, name) for entry in entries)

    if not new_tokens or is_in(modules_to_save, embedding):
        return None
    shared = [embedding, head] if tied else [embedding]
    for key, entries in (("target_modules", target_modules), ("modules_to_save", modules_to_save)):
        clashes = [places[layer] for layer in shared if is_in(entries, layer)]
        if clashes:
            names = [places[layer].rpartition(".")[2] for layer in shared]
            raise ConfigError(
                key=f"adapter.{key}",
                got=f"{clashes[0]!r} with model.additional_special_tokens",
                expected="the whole embedding in modules_to_save, or neither embedding nor tied head",
                fix=f"set adapter.modules_to_save={names}, and leave them out of target_modules",
            )
    return list(new_tokens)
