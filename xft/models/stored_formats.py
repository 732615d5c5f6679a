"""Base models that are stored in another number format than 16 or 32 bits.

Formats with a floating-point type per weight (FP8, MXFP4, compressed tensors) are dequantized while they are read: the model in
memory is an ordinary one, and everything works as with it. Integer formats (GPTQ, AWQ, bitsandbytes) stay as they are, as the
frozen base of an adapter.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from xft.errors import ConfigError, ModelError
from xft.models.families import optional_field
from xft.models.quantization import Quantization

DEQUANTIZED: dict[str, tuple[str, ...]] = {
    "fp8": (),
    "mxfp8": (),
    "mxfp4": (),
    "compressed-tensors": ("compressed_tensors",),
}
"""Formats that are dequantized while they are read, with the packages that read them."""
FROZEN: dict[str, tuple[str, ...]] = {
    "bitsandbytes": ("bitsandbytes",),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel",),
}
"""Formats that stay as they are, with the packages that compute with them."""
_SIXTEEN_BITS = "name the 16-bit model in model.path"


def stored_format(config: PretrainedConfig) -> str | None:
    """Return the number format of a model's files; ``None`` for ordinary weights.

    Args:
        config: of the model, before it is loaded.
    """
    given: Any = optional_field(config, "quantization_config") or optional_field(
        config.get_text_config(), "quantization_config"
    )
    if given is None:
        return None
    fields: dict[str, Any] = given if isinstance(given, dict) else given.to_dict()
    method = fields.get("quant_method")
    return "bitsandbytes" if method is None else str(getattr(method, "value", method))


def check_stored_format(path: str, config: PretrainedConfig, quantization: str | None = None) -> None:
    """Check that the files of a model can be read, before they are.

    Args:
        path: path of the model, for the message.
        config: of the model.
        quantization: name of the quantization in the config of the run; ``None`` without one.

    Raises:
        ModelError: the format is unknown, or a package is missing.
        ConfigError: the weights are quantized already.
    """
    name = stored_format(config)
    if name is None:
        return
    packages = (DEQUANTIZED | FROZEN).get(name)
    if packages is None:
        raise ModelError(
            key="model.path",
            got=f"{path}, stored in the format {name!r}",
            expected=f"16 or 32 bits, or one of {', '.join(sorted(DEQUANTIZED | FROZEN))}",
            fix=_SIXTEEN_BITS,
        )
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ModelError(
            key="model.path",
            got=f"{path}, stored in the format {name!r}",
            expected=f"an installed {' and '.join(missing)}, which read it",
            fix=f"pip install {' '.join(missing).replace('_', '-')}; or {_SIXTEEN_BITS}",
        )
    if quantization is not None and (name in FROZEN or quantization != "NF4"):
        raise ConfigError(
            key="quantization",
            got=f"{quantization} for a base stored in the format {name!r}",
            expected="None"
            if name in FROZEN
            else "None, which dequantizes it to 16 bits, or dict(type='nf4')",
            fix=f"set quantization=None; or {_SIXTEEN_BITS}",
        )


def dequantizing_options(config: PretrainedConfig) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` that dequantize the weights while they are read."""
    name = stored_format(config)
    if name not in DEQUANTIZED:
        return {}
    return {"quantization_config": AUTO_QUANTIZATION_CONFIG_MAPPING[name](dequantize=True)}


def check_trainable_format(path: str, config: PretrainedConfig, has_adapter: bool) -> None:
    """Check that weights in an integer format are not to be trained themselves.

    Raises:
        ConfigError: they are.
    """
    name = stored_format(config)
    if name in FROZEN and not has_adapter:
        raise ConfigError(
            key="adapter",
            got=f"None for {path}, stored in the format {name!r}",
            expected="an adapter, since quantized weights cannot be trained",
            fix=f"set adapter=dict(type='lora'); or {_SIXTEEN_BITS}",
        )


def packed_layers(model: nn.Module) -> list[str]:
    """Return the linear layers whose weights are packed integers, which are no ``nn.Linear``."""
    return [name for name, module in model.named_modules() if hasattr(module, "qweight") and name]


def placement_options(
    config: PretrainedConfig,
    dtype: torch.dtype | Literal["auto"],
    quantization: Quantization | None,
    device: torch.device | None,
    skipped: list[str] | None,
) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` that say in which numbers and where the weights are stored."""
    stored = stored_format(config)
    if stored == "bitsandbytes":
        import_module("xft.compat.bitsandbytes")
    options = dequantizing_options(config)
    if stored is None and quantization is not None:
        options["quantization_config"] = quantization.config(
            torch.bfloat16 if dtype == "auto" else dtype, skipped
        )
    # Weights that are dequantized in order to be quantized again pass through the memory of the host.
    passes_host = stored is not None and quantization is not None
    is_placed = device is not None and (
        device.type == "cuda" or quantization is not None or stored in FROZEN
    )
    if is_placed and not passes_host:
        options["device_map"] = {"": device}
    return options
