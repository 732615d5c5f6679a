"""Merge an adapter into its base model."""

from typing import Any, cast

from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from xft.errors import ConfigError
from xft.models.adapters.full_modules import downcast_full_modules
from xft.models.quantization import peft_without_bnb_import
from xft.models.reward_head import is_reward_model
from xft.models.stored_formats import packed_layers


def merge(model: PeftModel) -> PreTrainedModel:
    """Merge the adapter into the base: ``W + lora_alpha / r · B A``, in the dtype of ``W``.

    A head and an embedding that share one weight are separated if one of them has an adapter: the sum belongs to that
    one only. Fully trained modules, and the head of a reward model, are cast to the dtype of the other weights.

    Raises:
        ConfigError: the weights of the base are packed integers.
    """
    check_mergeable(model)
    _untie(model)
    with peft_without_bnb_import():
        merged = model.merge_and_unload(safe_merge=True)
    downcast_full_modules(merged)
    if is_reward_model(merged):
        merged.score.to(merged.dtype)
    return cast(PreTrainedModel, merged)


def check_mergeable(model: PeftModel) -> None:
    """Check that the base has weights that an adapter can be added to.

    Raises:
        ConfigError: its weights are packed integers (GPTQ, AWQ).
    """
    if layers := packed_layers(model.get_base_model()):
        raise ConfigError(
            key="--merge",
            got=f"an adapter on a base of packed integers, such as {layers[0]}",
            expected="a base in 16 or 32 bits, in NF4 or in int8, to which the update can be added",
            fix="leave out --merge and load the adapter on its base; or dequantize the base to 16 bits, name it as "
            "base_model_name_or_path in adapter_config.json, and merge there",
        )


def _untie(model: PeftModel) -> None:
    """Give the head a weight of its own if head or embedding have LoRA weights and share theirs."""
    base: Any = model.get_base_model()
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    if not (isinstance(head, LoraLayer) or isinstance(embeddings, LoraLayer)) or head is None:
        return
    head, embeddings = (
        layer.get_base_layer() if isinstance(layer, LoraLayer) else layer for layer in (head, embeddings)
    )
    if head.weight is not embeddings.weight:
        return
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in (base.config, base.config.get_text_config()):
        config.tie_word_embeddings = False
    base.all_tied_weights_keys = {}
