"""NF4 weights of fused experts. Importing it imports bitsandbytes.

transformers quantizes linear layers only, and leaves fused experts, most of a mixture-of-experts model, in 16 bits.
Here they become parametrized weights, which are dequantized when they are used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils.parametrize import register_parametrization
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name, should_convert_module

from xft.compat.bitsandbytes import bitsandbytes
from xft.models.expert_weights import dequantize_experts, recompute_expert_weights
from xft.models.experts import fused_weights, is_fused
from xft.models.nf4_packing import pack, pack_rows
from xft.models.param_shapes import quant_state
from xft.models.sharded_reading import full_tensor, shard_rows
from xft.utils.memory import release_freed_memory

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
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                continue
            for name, param in list(module.named_parameters(recurse=False)):
                if (state := quant_state(param)) is not None:
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
        config = self.hf_quantizer.quantization_config
        packed: dict[str, Any] = {}
        for name, value in input_dict.items():
            module, key = get_module_from_name(kwargs["model"], name)
            param, weight = module._parameters[key], value[0] if isinstance(value, list) else value
            if isinstance(param, DTensor):
                packed[name] = pack_rows(weight, param, config)
            elif isinstance(module, bitsandbytes.nn.Linear4bit):
                stored = weight.T if issubclass(module.source_cls, Conv1D) else weight
                packed[name] = _linear_parameter(pack(stored, config), module)
            else:
                packed[name] = pack(weight, config)
            module._is_hf_initialized = True
            release_freed_memory()
        return packed


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
                module.register_parameter(key, _packed_parameter(module.get_parameter(key), config, device))
    for tensor in chain(model.parameters(), model.buffers()):
        # Not Module.to, which makes other objects of sharded parameters.
        if quant_state(tensor) is None:
            tensor.data = tensor.data.to(device)
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
    weight = _packed_parameter(layer.weight, config, device)
    quantized.weight = weight if isinstance(weight, DTensor) else _linear_parameter(weight, quantized)
    quantized.bias = (
        None if layer.bias is None else nn.Parameter(layer.bias.data.to(device), requires_grad=False)
    )
    quantized.source_cls = nn.Linear
    return quantized


def _linear_parameter(
    packed: nn.Parameter, layer: bitsandbytes.nn.Linear4bit
) -> bitsandbytes.nn.Params4bit:
    """Return packed numbers as the parameter class of a layer, which follows it to another device and into files."""
    weight = bitsandbytes.nn.Params4bit(
        packed.data, requires_grad=False, module=layer, bnb_quantized=True, **vars(packed)
    )
    layer.quant_state = weight.quant_state
    return weight


def _packed_parameter(weight: Tensor, config: BitsAndBytesConfig, device: torch.device) -> nn.Parameter:
    """Quantize a weight on a device. Collective if it is sharded, as the result is then."""
    if not isinstance(weight, DTensor):
        return pack(weight.to(device), config)
    return shard_rows(pack(full_tensor(weight), config), weight.device_mesh)
