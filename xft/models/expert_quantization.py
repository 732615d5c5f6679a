"""NF4 weights of fused experts. Importing it imports bitsandbytes.

transformers quantizes linear layers only, and leaves fused experts, most of a mixture-of-experts model, in 16 bits.
Here they become parametrized weights, which are dequantized when they are used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name, should_convert_module

from xft.compat.bitsandbytes import bitsandbytes
from xft.models.expert_weights import dequantize_experts, recompute_expert_weights
from xft.models.experts import fused_weights, is_fused
from xft.models.param_shapes import quant_state

_METHOD = "bitsandbytes_4bit"


class Dequantize(nn.Module):
    """Compute a weight from its packed form.

    As one vector: on a CPU, bitsandbytes returns other numbers for rows that are no multiple of a block of 64.

    Args:
        state: quantization state of the weight.
    """

    def __init__(self, state: Any) -> None:
        super().__init__()
        self.shape: torch.Size = state.shape
        self.state = copy(state)
        self.state.shape = torch.Size([self.shape.numel()])

    @torch.no_grad()
    def forward(self, packed: Tensor) -> Tensor:
        """Return the weight in the dtype that it had before quantization."""
        weight: Tensor = bitsandbytes.functional.dequantize_4bit(packed, self.state)
        return weight.view(self.shape)


@contextmanager
def quantized_experts() -> Iterator[None]:
    """Make ``from_pretrained`` quantize fused experts too, one weight at a time while they are read."""
    before = AUTO_QUANTIZER_MAPPING[_METHOD]
    AUTO_QUANTIZER_MAPPING[_METHOD] = ExpertQuantizer
    try:
        yield
    finally:
        AUTO_QUANTIZER_MAPPING[_METHOD] = before


class ExpertQuantizer(Bnb4BitHfQuantizer):
    """The 4-bit quantizer of transformers, for fused experts too."""

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **kwargs: object) -> bool:
        """Return whether a parameter is quantized while it is read."""
        module, name = get_module_from_name(model, param_name)
        is_expert = is_fused(module) and name in dict(fused_weights(module))
        return is_expert or bool(super().param_needs_quantization(model, param_name, **kwargs))

    def get_quantize_ops(self) -> Bnb4bitQuantize:
        """Return the operation that quantizes one weight."""
        return _Quantize(self)

    def _process_model_after_weight_loading(
        self, model: PreTrainedModel, **kwargs: object
    ) -> PreTrainedModel:
        recompute_expert_weights(model)
        for module in list(model.modules()):
            packed = [name for name, param in module.named_parameters(recurse=False) if _is_packed(param)]
            for name in packed:
                state = quant_state(module.get_parameter(name))
                register_parametrization(module, name, Dequantize(state), unsafe=True)
        loaded: PreTrainedModel = super()._process_model_after_weight_loading(model, **kwargs)
        return loaded

    def _dequantize(self, model: PreTrainedModel, dtype: torch.dtype | None = None) -> PreTrainedModel:
        dequantize_experts(model, dtype)
        plain: PreTrainedModel = super()._dequantize(model, dtype=dtype)
        return plain


class _Quantize(Bnb4bitQuantize):
    def convert(self, input_dict: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Quantize the weight of a linear layer, or of fused experts."""
        experts, others = {}, {}
        for name, value in input_dict.items():
            module, _ = get_module_from_name(kwargs["model"], name)
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                others[name] = value
            else:
                experts[name] = _pack(
                    value[0] if isinstance(value, list) else value, self.hf_quantizer.quantization_config
                )
                module._is_hf_initialized = True
        linear: dict[str, Any] = super().convert(others, *args, **kwargs) if others else {}
        return experts | linear


def quantize_loaded(model: PreTrainedModel, config: BitsAndBytesConfig, device: torch.device) -> None:
    """Quantize linear layers and fused experts of a loaded model, one at a time, as ``from_pretrained`` does.

    Args:
        model: in host memory.
        config: of the quantization.
        device: device of the result.
    """
    quantizer = ExpertQuantizer(config, pre_quantized=False)
    kept = quantizer.get_modules_to_not_convert(
        model, config.llm_int8_skip_modules, list(model._keep_in_fp32_modules or [])
    )
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and should_convert_module(name, kept):
            model.set_submodule(name, _quantized_linear(module, config, device))
        elif is_fused(module):
            for key, _ in list(fused_weights(module)):
                module.register_parameter(key, _pack(module.get_parameter(key).data.to(device), config))
    nn.Module.to(model, device)
    quantizer.postprocess_model(model)
    loaded: Any = model
    loaded.hf_quantizer, loaded.quantization_method = quantizer, config.quant_method


def _quantized_linear(
    layer: nn.Linear, config: BitsAndBytesConfig, device: torch.device
) -> bitsandbytes.nn.Linear4bit:
    options = {
        "compress_statistics": config.bnb_4bit_use_double_quant,
        "quant_type": config.bnb_4bit_quant_type,
        "quant_storage": config.bnb_4bit_quant_storage,
    }
    with torch.device("meta"):
        quantized = bitsandbytes.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            layer.bias is not None,
            config.bnb_4bit_compute_dtype,
            **options,
        )
    weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, module=quantized, **options)
    quantized.weight = weight.to(device)
    quantized.bias = (
        None if layer.bias is None else nn.Parameter(layer.bias.data.to(device), requires_grad=False)
    )
    quantized.source_cls = nn.Linear
    return quantized


def _pack(weight: Tensor, config: BitsAndBytesConfig) -> nn.Parameter:
    packed, state = bitsandbytes.functional.quantize_4bit(
        weight.flatten(),
        compress_statistics=config.bnb_4bit_use_double_quant,
        quant_type=config.bnb_4bit_quant_type,
        quant_storage=config.bnb_4bit_quant_storage,
    )
    param = nn.Parameter(packed, requires_grad=False)
    state.shape = weight.shape
    param.quant_state = state  # type: ignore[attr-defined]
    return param


def _is_packed(param: Tensor) -> bool:
    return quant_state(param) is not None and not isinstance(param, bitsandbytes.nn.Params4bit)
