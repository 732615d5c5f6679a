"""Measure whether a loaded vision-language model keeps packed samples apart, images included."""

import inspect
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from xft.data import collate_padding_free
from xft.models.attention import ATTN_IMPLEMENTATION
from xft.models.forward_inputs import forward_inputs, text_attention
from xft.models.model_options import model_options
from xft.models.scoring import eval_mode
from xft.models.vision.processor import VisionProcessor
from xft.types import Sample

_LIMITS = {torch.float32: 1e-3, torch.float64: 1e-3}
"""Largest difference of the last hidden states, relative to their norm, that rounding causes."""
_LIMIT_HALF = 0.1
_SIZES = ((48, 72), (96, 40))


def packing_problem(model: PreTrainedModel, processor: VisionProcessor) -> str:
    """Return why samples must not be packed; empty if they may be.

    Three samples, two of them with an image, are packed and compared with transformers' own forward of each alone. The
    model itself is measured: a small copy would need rules for the sizes of all its parts.

    Args:
        model: a loaded model without adapter, or with one.
        processor: bound to the model.
    """
    if is_deepspeed_zero3_enabled():
        return "isolation of packed samples is not measured under ZeRO-3, which shards the model"
    if text_attention(model) != ATTN_IMPLEMENTATION:
        return f"attention {text_attention(model)!r} does not keep packed samples apart"
    samples = _samples(processor)
    limit = _LIMITS.get(model.dtype, _LIMIT_HALF)
    with eval_mode(model):
        try:
            error = max(
                _distance(packed, alone)
                for packed, alone in zip(
                    _packed(model, processor, samples),
                    [_alone(model, processor, sample) for sample in samples],
                    strict=True,
                )
            )
        except Exception as refusal:  # noqa: BLE001  Any class may refuse a packed batch in any way.
            return f"the model refuses packed samples ({type(refusal).__name__}: {refusal!s:.100})"
    return (
        "" if error <= limit else "the model mixes packed samples, or attends to later tokens, as measured"
    )


def _samples(processor: VisionProcessor) -> list[Sample]:
    generator = np.random.default_rng(0)
    pictures = [Pillow.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in _SIZES]
    texts = ("a question about this: ", "a question without an image", "another question: ")
    return [
        processor.sample(text, shown)
        for text, shown in zip(texts, ([pictures[0]], [], [pictures[1]]), strict=True)
    ]


def _packed(model: PreTrainedModel, processor: VisionProcessor, samples: list[Sample]) -> list[Tensor]:
    batch = collate_padding_free(samples)
    inputs = processor.model_inputs(samples, None)
    batch.model_inputs, batch.token_inputs = inputs.model_inputs, inputs.token_inputs
    states = model.base_model(**forward_inputs(model, batch.to(model.device))).last_hidden_state
    return list(states[0].split(batch.seq_lens))


def _alone(model: PreTrainedModel, processor: VisionProcessor, sample: Sample) -> Tensor:
    """Return the last hidden states of a sample with the masks and positions of transformers."""
    ids = torch.from_numpy(sample.input_ids.astype(np.int64))[None]
    arguments: dict[str, Tensor] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    types = torch.from_numpy(np.isin(sample.input_ids, list(processor.token_ids)).astype(np.int64))[None]
    accepted = inspect.signature(model.base_model.forward).parameters
    arguments |= {name: types for name in ("mm_token_type_ids", "token_type_ids") if name in accepted}
    for name, value in processor.model_inputs([sample], None).model_inputs.items():
        arguments[name] = value.to(model.dtype) if value.is_floating_point() else value
    moved = {name: value.to(model.device) for name, value in arguments.items()}
    states: Tensor = model.base_model(**moved, use_cache=False).last_hidden_state[0]
    return states


def _distance(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).float().norm() / expected.float().norm())


def attach_processor(model: PreTrainedModel, processor: VisionProcessor) -> None:
    """Keep the image processor with its model, and make the forward pass of the model accept packed samples."""
    model_options(model).processor = processor
    processor.bind(model)
    _strip_arguments(model)


def _strip_arguments(model: PreTrainedModel) -> None:
    """Remove arguments that a model passes to parts that do not know them.

    A vision tower has no packed samples, and attention has no logits.
    """
    tower = model.get_encoder(modality="image")
    _strip(tower, ("seq_lens", "kernels", "sequence"))
    tower.register_forward_pre_hook(_set_eval_mode)
    _strip(model.get_decoder(), ("logits_to_keep",))


def _set_eval_mode(tower: nn.Module, args: object) -> None:
    """Set a frozen tower to eval mode, and the batch norms of any tower, whose statistics no gradient trains."""
    if not tower.training:
        return
    if not any(param.requires_grad for param in tower.parameters()):
        tower.eval()
    for module in tower.modules():
        if isinstance(module, BatchNorm):
            module.eval()


def _strip(part: nn.Module, names: tuple[str, ...]) -> None:
    def strip(module: nn.Module, args: object, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {name: value for name, value in kwargs.items() if name not in names}

    part.register_forward_pre_hook(strip, with_kwargs=True)
