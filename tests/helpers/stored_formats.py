"""Tiny checkpoints in other number formats, packed by hand from a model in 16 or 32 bits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

GROUP = 32
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
Pack = Callable[[str, Tensor], tuple[dict[str, Tensor], Tensor]]
"""From name and weight to the stored tensors, and the numbers that they stand for."""


def store(folder: Path, target: Path, method: str) -> dict[str, Tensor]:
    """Write the model of a folder in a number format. Returns the numbers of its weights."""
    target.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (target / file.name).write_bytes(file.read_bytes())
    pack, options = _METHODS[method]
    stored, numbers = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        packs = _is_expert(name) if method == "mxfp4" else name.endswith("_proj.weight")
        parts, numbers[name] = pack(name, weight.float()) if packs else ({name: weight}, weight.float())
        stored |= parts
    save_file(
        {name: part.contiguous() for name, part in stored.items()},
        target / "model.safetensors",
        {"format": "pt"},
    )
    config = json.loads((target / "config.json").read_text())
    config["quantization_config"] = options
    (target / "config.json").write_text(json.dumps(config))
    return numbers


def _is_expert(name: str) -> bool:
    return name.endswith(("experts.gate_up_proj", "experts.down_proj"))


def _fp8(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    rows, columns = weight.shape
    blocks = weight.view(rows // GROUP, GROUP, columns // GROUP, GROUP)
    scale = blocks.abs().amax(dim=(1, 3)) / 448
    packed = (blocks / scale[:, None, :, None]).view(rows, columns).to(torch.float8_e4m3fn)
    numbers = (packed.float().view_as(blocks) * scale[:, None, :, None]).view(rows, columns)
    return {name: packed, f"{name}_scale_inv": scale}, numbers


def _channel_fp8(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    scale = weight.abs().amax(dim=1, keepdim=True) / 448
    packed = (weight / scale).to(torch.float8_e4m3fn)
    return {name: packed, f"{name}_scale": scale}, packed.float() * scale


def _mxfp4(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Pack ``(experts, in, out)`` as transformers stores gpt-oss: ``(experts, out, in / 32, 16)``."""
    blocks = weight.transpose(1, 2).unflatten(-1, (-1, 32))
    exponents = torch.floor(torch.log2(blocks.abs().amax(dim=-1).clamp(min=1e-9))) - 2
    values = torch.tensor([*_FP4, *(-value for value in _FP4)])
    codes = (blocks / 2 ** exponents[..., None]).unsqueeze(-1).sub(values).abs().argmin(dim=-1)
    numbers = (values[codes] * 2 ** exponents[..., None]).flatten(2).transpose(1, 2)
    packed = (codes[..., ::2] | (codes[..., 1::2] << 4)).to(torch.uint8)
    return {f"{name}_blocks": packed, f"{name}_scales": (exponents + 127).to(torch.uint8)}, numbers


def _four_bits(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``(in, out)`` codes with a zero point of 8, ``(groups, out)`` scales, and ``(out, in)`` numbers."""
    groups = weight.t().unflatten(0, (-1, GROUP))
    scales = (groups.abs().amax(dim=1) / 7).half()
    codes = (groups / scales[:, None].float()).round().clamp(-8, 7)
    numbers = (codes * scales[:, None].float()).flatten(0, 1).t()
    return (codes + 8).flatten(0, 1).int(), scales, numbers


def _pack_int32(codes: Tensor, order: tuple[int, ...] = tuple(range(8))) -> Tensor:
    """Pack eight codes of the last dimension into one integer."""
    eights = codes.long().unflatten(-1, (-1, 8))
    packed = sum(eights[..., place] << (4 * number) for number, place in enumerate(order))
    assert isinstance(packed, Tensor)
    return torch.where(packed >= 2**31, packed - 2**32, packed).int()


def _gptq(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    codes, scales, numbers = _four_bits(weight)
    base = name.removesuffix("weight")
    return {
        f"{base}qweight": _pack_int32(codes.t()).t(),
        f"{base}qzeros": _pack_int32(torch.full_like(scales, 7)),  # one less than the zero point
        f"{base}scales": scales,
        f"{base}g_idx": torch.arange(len(codes)).int() // GROUP,
    }, numbers


def _awq(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    codes, scales, numbers = _four_bits(weight)
    base = name.removesuffix("weight")
    return {
        f"{base}qweight": _pack_int32(codes, _AWQ_ORDER),
        f"{base}qzeros": _pack_int32(torch.full_like(scales, 8), _AWQ_ORDER),
        f"{base}scales": scales,
    }, numbers


_CHANNEL = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
_METHODS: dict[str, tuple[Pack, dict[str, Any]]] = {
    "fp8": (_fp8, {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [GROUP, GROUP]}),
    "mxfp4": (_mxfp4, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head", "self_attn"]}),
    "compressed-tensors": (
        _channel_fp8,
        {
            "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
            "ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"], "weights": _CHANNEL}},
        },
    ),
    "gptq": (_gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "desc_act": False}),
    "awq": (_awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}),
}  # fmt: skip
