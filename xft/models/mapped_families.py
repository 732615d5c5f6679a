"""Model families without a class in transformers, computed by its Llama class: InternLM 2 and 2.5, Baichuan and Baichuan 2.

Weights are renamed and split while they are read (``register_checkpoint_conversion_mapping`` of transformers), and
``save_pretrained`` reverts that: a saved model has the layout of its family, which LMDeploy and vLLM read. No code of a
model folder is executed.

Formats: ``modeling_internlm2.py`` of InternLM2, ``modeling_baichuan.py`` of Baichuan 2, and their readers in vLLM.
"""

import shutil
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn.functional import linear, normalize
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, ConversionOps, WeightConverter, WeightRenaming

from xft.errors import ModelError

BAICHUAN_2_VOCAB_SIZE = 125696
"""Every reader of Baichuan recognizes version 2, whose head is normalized, by this size."""
_ALIBI_HIDDEN_SIZE = 5120
_QKV = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]


@strict
class InternLM2Config(LlamaConfig):
    """Config of InternLM 2 and 2.5; ``bias`` is Llama's ``attention_bias``."""

    model_type = "internlm2"
    attribute_map: ClassVar[dict[str, str]] = {"bias": "attention_bias"}

    vocab_size: int = 103168
    attention_bias: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the fields under the names that readers of InternLM2 know.

        Their config class accepts ``rope_scaling`` with exactly the fields ``type`` and ``factor``.
        """
        fields = super().to_dict()
        fields["bias"] = fields.pop("attention_bias")
        rope = dict(fields.pop("rope_parameters") or {})
        fields["rope_theta"] = rope.pop("rope_theta", self.default_theta)
        kind = rope.pop("rope_type", "default")
        fields["rope_scaling"] = None if kind == "default" else rope | {"type": kind}
        return fields


@strict
class BaichuanConfig(LlamaConfig):
    """Config of Baichuan 7B and Baichuan 2 7B.

    The models of 13B have no rotary embedding but ALiBi, which no class of transformers combines with the other layers
    of Llama. Their readers recognize them by the hidden size.
    """

    model_type = "baichuan"

    vocab_size: int = 64000
    max_position_embeddings: int = 4096

    def __post_init__(self, **kwargs: object) -> None:
        if self.hidden_size == _ALIBI_HIDDEN_SIZE:
            raise ValueError("Baichuan 13B has ALiBi, which Llama does not compute; expected a model of 7B")
        super().__post_init__(**kwargs)

    @property
    def has_norm_head(self) -> bool:
        """Return whether the head is a :class:`NormHead`, as in Baichuan 2."""
        return self.vocab_size == BAICHUAN_2_VOCAB_SIZE


class NormHead(nn.Module):
    """Head of Baichuan 2: each logit is the product with the weights of a token, divided by their norm.

    It is not an ``nn.Linear``, whose weights kernels and quantization would use without dividing.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map ``(..., hidden)`` to ``(..., vocabulary)``."""
        return linear(hidden_states, normalize(self.weight))


class InternLM2ForCausalLM(LlamaForCausalLM):
    """InternLM 2 and 2.5, computed as Llama."""

    config_class = InternLM2Config


class BaichuanForCausalLM(LlamaForCausalLM):
    """Baichuan 7B and Baichuan 2 7B, computed as Llama."""

    config_class = BaichuanConfig

    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__(config)
        if config.has_norm_head:
            self.lm_head = NormHead(config.hidden_size, config.vocab_size)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Resize the embeddings of Baichuan 1.

        Raises:
            ModelError: the model is a Baichuan 2 of another size, whose head other readers would not normalize.
        """
        if isinstance(self.lm_head, NormHead) and new_num_tokens not in (None, self.config.vocab_size):
            raise ModelError(
                key="model.additional_special_tokens",
                got=f"{new_num_tokens} tokens of a Baichuan 2 model",
                expected=f"{BAICHUAN_2_VOCAB_SIZE}, by which other programs recognize its normalized head",
                fix="use its reserved tokens, <reserved_106> and higher",
            )
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)


class _QKVOperation(ConversionOps):
    """Convert between one matrix and the queries, keys and values of grouped-query attention (or their biases)."""

    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Convert the tensors of ``source_patterns`` into those of ``target_patterns``."""
        values = [input_dict[name] for name in source_patterns]
        tensors = [value[0] if isinstance(value, list) else value for value in values]
        results = self._convert(tensors, kwargs["config"])
        return dict(zip(target_patterns, results, strict=True))

    @abstractmethod
    def _convert(self, tensors: list[Tensor], config: LlamaConfig) -> list[Tensor]:
        """Return the converted tensors."""


class SplitGroupedQKV(_QKVOperation):
    """Split a matrix whose rows are, for each key head: its query heads, the key head, the value head."""

    def _convert(self, tensors: list[Tensor], config: LlamaConfig) -> list[Tensor]:
        assert config.num_key_value_heads is not None
        groups = config.num_attention_heads // config.num_key_value_heads
        heads = tensors[0].unflatten(0, (config.num_key_value_heads, groups + 2, config.head_dim))
        return [part.flatten(0, 2).contiguous() for part in heads.split([groups, 1, 1], dim=1)]

    @property
    def reverse_op(self) -> "ConversionOps":
        """Return the operation that joins the parts."""
        return JoinGroupedQKV()


class JoinGroupedQKV(_QKVOperation):
    """The inverse of :class:`SplitGroupedQKV`."""

    def _convert(self, tensors: list[Tensor], config: LlamaConfig) -> list[Tensor]:
        shape = (config.num_key_value_heads, -1, config.head_dim)
        parts = [tensor.unflatten(0, shape) for tensor in tensors]
        return [torch.cat(parts, dim=1).flatten(0, 2).contiguous()]

    @property
    def reverse_op(self) -> "ConversionOps":
        """Return the operation that splits the matrix."""
        return SplitGroupedQKV()


def _internlm2_mapping() -> list[WeightConverter | WeightRenaming]:
    names = {
        "model.tok_embeddings": "model.embed_tokens",
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w3": "mlp.up_proj",
        "feed_forward.w2": "mlp.down_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "^output": "^lm_head",
    }
    renamings = [WeightRenaming(old, new) for old, new in names.items()]
    return [*renamings, WeightConverter("attention.wqkv", list(_QKV), [SplitGroupedQKV()])]


def _baichuan_mapping() -> list[WeightConverter | WeightRenaming]:
    return [WeightConverter("self_attn.W_pack", list(_QKV), [Chunk(dim=0)])]


_FAMILIES: list[tuple[type[LlamaConfig], type[PreTrainedModel], Any]] = [
    (InternLM2Config, InternLM2ForCausalLM, _internlm2_mapping),
    (BaichuanConfig, BaichuanForCausalLM, _baichuan_mapping),
]


def _register_families() -> None:
    """Register the families with the automatic classes of transformers."""
    for config_class, model_class, mapping in _FAMILIES:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModelForCausalLM.register(config_class, model_class, exist_ok=True)
        register_checkpoint_conversion_mapping(config_class.model_type, mapping(), overwrite=True)


_register_families()


def is_mapped(config: PretrainedConfig) -> bool:
    """Return whether a config belongs to one of the families."""
    return isinstance(config, tuple(config_class for config_class, _, _ in _FAMILIES))


def as_llama(model: PreTrainedModel) -> LlamaForCausalLM:
    """Return a plain Llama model with the same logits, which shares the weights of a model of these families.

    Args:
        model: a whole model for which :func:`is_mapped` is true.
    """
    fields = PretrainedConfig.to_dict(model.config)
    for name in ("model_type", "architectures", "auto_map", "tokenizer_class"):
        fields.pop(name, None)
    with torch.device("meta"):
        plain = LlamaForCausalLM(LlamaConfig(**fields))
    weights = model.state_dict()
    if isinstance(model.lm_head, NormHead):
        weights["lm_head.weight"] = normalize(model.lm_head.weight.detach())
    plain.load_state_dict(weights, assign=True)
    plain.model.rotary_emb = model.model.rotary_emb
    plain.generation_config = model.generation_config
    return plain.eval()


def mapped_model_type(source: str, local_files_only: bool = False) -> str | None:
    """Return the ``model_type`` of a model folder or hub name if it is one of these families.

    Args:
        source: folder or hub name.
        local_files_only: download nothing.
    """
    local = local_files_only or Path(source).is_dir()
    try:
        fields, _ = PretrainedConfig.get_config_dict(source, local_files_only=local)
    except OSError:  # a folder with a tokenizer only
        return None
    model_type = fields.get("model_type")
    return model_type if model_type in {family[0].model_type for family in _FAMILIES} else None


def copy_model_code(model: PreTrainedModel, folder: Path) -> None:
    """Copy the Python files of a mapped model, without which LMDeploy and vLLM cannot read its config.

    Args:
        model: the model. One that was loaded from the hub refers to its repository.
        folder: of the saved model.
    """
    source = Path(str(model.name_or_path))
    if is_mapped(model.config) and source.is_dir() and source.resolve() != folder.resolve():
        for file in source.glob("*.py"):
            shutil.copyfile(file, folder / file.name)
