"""Methods of tuning, and the values that go with each.

The values are those of the shipped methods, ``configs/_base_/methods``: a config that is written for a model has the same
adapter, quantization, objective and rows per step as the shipped model with the method. The learning rate of a shipped
method is that of a model of ``REFERENCE_SIZE``; a config that is written for a model scales it by the size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from xft.config import load_config
from xft.utils.presets import preset_methods

LEARNING_RATES = ((0.5e9, 5e-4), (15e9, 2e-4), (80e9, 1e-4), (float("inf"), 5e-5))
"""Number of parameters up to which a learning rate of LoRA holds. From 7 B on as in QLoRA (Dettmers et al. 2023,
https://arxiv.org/abs/2305.14314): 2e-4 up to 13 B, 1e-4 for 33 and 65 B. The others extend this."""
REFERENCE_SIZE = 7e9
"""Number of parameters of a model that has the learning rate of a shipped method."""
EPOCHS = ((200, 5), (2_000, 3), (20_000, 2))
"""Number of rows up to which a number of epochs holds; one for more."""
_SECTIONS = ("objective", "rewards", "rollout")


@dataclass(frozen=True)
class Method:
    """A method of ``--method``.

    Attributes:
        name: name of its file.
        adapter: section ``adapter``; ``None`` trains all weights.
        quantization: section ``quantization``; ``None`` loads the weights as they are saved.
        kind: ``data.type``.
        sections: the sections ``objective``, ``rewards`` and ``rollout``, as far as the method has them.
        learning_rate: peak learning rate of a model of ``REFERENCE_SIZE``.
        rows_per_step: number of rows of an optimizer step.
    """

    name: str
    adapter: Mapping[str, Any] | None
    quantization: Mapping[str, Any] | None
    kind: str
    sections: Mapping[str, Any]
    learning_rate: float
    rows_per_step: int

    @property
    def weights(self) -> str:
        """``full``, ``lora`` or ``qlora``."""
        return "full" if self.adapter is None else "lora" if self.quantization is None else "qlora"


@cache
def read_method(name: str) -> Method:
    """Read a shipped method: a key of :func:`~xft.utils.presets.preset_methods`."""
    config = load_config(preset_methods()[name])
    training = config["training"]
    return Method(
        name,
        config["adapter"],
        config.get("quantization"),
        config["data"]["type"],
        {key: config[key] for key in _SECTIONS if key in config},
        config["optimizer"]["lr"],
        training["micro_batch_size"] * training["gradient_accumulation_steps"],
    )


def choose_method(name: str | None, kind: str, on_gpu: bool) -> Method:
    """Return a method with the weights that fit the machine.

    On a CPU, 4-bit weights are slow: every method but ``qlora`` trains the adapter of ``lora`` in their place.

    Args:
        name: of a shipped method; ``None`` chooses it by the rows.
        kind: ``data.type``.
        on_gpu: whether the model is trained on a GPU.
    """
    method = read_method(name or default_method(kind, on_gpu))
    if on_gpu or method.name == "qlora" or method.quantization is None:
        return method
    return replace(method, adapter=read_method("lora").adapter, quantization=None)


def default_method(kind: str, on_gpu: bool) -> str:
    """Return the name of the method for rows of a kind.

    Args:
        kind: ``data.type``.
        on_gpu: whether the model is trained on a GPU.
    """
    by_kind = {
        "preference": "orpo",
        "unpaired_preference": "kto",
        "text": "pretrain",
        "prompt": "grpo",
    }
    return by_kind.get(kind, "qlora" if on_gpu else "lora")


def choose_learning_rate(method: Method, num_parameters: float | None) -> float:
    """Return the peak learning rate for a model of a size; that of ``REFERENCE_SIZE`` if it is not known."""
    size = REFERENCE_SIZE if num_parameters is None else num_parameters
    return float(f"{method.learning_rate * _lora_rate(size) / _lora_rate(REFERENCE_SIZE):.1e}")


def _lora_rate(size: float) -> float:
    return next(rate for limit, rate in LEARNING_RATES if size <= limit)


def choose_epochs(method: Method, num_rows: int | None) -> int:
    """Return the number of epochs: more for few rows, one for raw text and unknown numbers."""
    if num_rows is None or method.kind == "text":
        return 1
    return next((epochs for limit, epochs in EPOCHS if num_rows <= limit), 1)
