"""Configs of models: ``model=dict(type="causal_lm", ...)`` and ``type="reward_model"``."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from xft.errors import ConfigError
from xft.models.adapters.lora import LoRA
from xft.models.adapters.merging import merge
from xft.models.adapters.saved_adapter import continue_adapter, load_adapter
from xft.models.fused_norm_mlp import fuse_modules
from xft.models.loading import (
    DType,
    LoadedModel,
    choose_dtype,
    load_tokenizer,
    load_weights,
    resize_embeddings,
)
from xft.models.model_options import ModelOptions, model_options, set_model_options
from xft.models.neftune import enable_neftune
from xft.models.quantization import Quantization
from xft.models.reward_head import ModelKind
from xft.models.scoring import has_linear_head
from xft.models.starting_point import (
    MERGE_FIRST,
    check_same_adapter,
    check_same_quantization,
    continued_tokens,
    find_starting_point,
)
from xft.registry import register
from xft.types import Tokenizer
from xft.types.ranges import Positive


@register("model", "causal_lm")
@dataclass
class CausalLMConfig:
    """A decoder that predicts the next token.

    Args:
        path: a model folder, ``xft://smollm2-135m-instruct``, or ``owner/name`` of the hub; or a run folder, a
            checkpoint or an adapter, to continue from. Training continues the adapter if the config has an adapter
            section, whose values must be those of the saved adapter; otherwise the adapter is merged into its base,
            and all weights are trained.
        dtype: of the weights; ``auto`` is bf16 on hardware with native bf16 arithmetic, fp32 elsewhere.
        attn_implementation: ``auto`` selects xft's attention for packed samples if the model supports it;
            otherwise a name that transformers knows (``sdpa``, ``eager``, ``flash_attention_2``).
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more
            time. ``auto`` recomputes just enough layers for the largest batch to fit; ``True`` all of them.
        additional_special_tokens: special tokens to add to the tokenizer, with trainable embeddings.
        tokenizer: a folder or hub name, if the tokenizer is not the model's own.
        trust_remote_code: run Python code from the model folder. Read the code before you enable it.
        fused_kernels: compute with :mod:`xft.kernels` where the model supports it; ``False`` uses only the
            operations of transformers, peft and torch.
        neftune_alpha: noise on the embeddings in training, uniform in ``±alpha / sqrt(L · d)`` for a sample of
            L tokens and hidden size d (NEFTune, Jain et al. 2023, https://arxiv.org/abs/2310.05914, with 5 to
            15); ``None`` adds no noise.

    Raises:
        ConfigError: ``neftune_alpha`` is not positive.
    """

    path: str
    dtype: DType = "auto"
    attn_implementation: str = "auto"
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    additional_special_tokens: list[str] | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    fused_kernels: bool = True
    neftune_alpha: Positive | None = None

    kind: ClassVar[ModelKind] = "causal_lm"

    def __post_init__(self) -> None:
        if self.neftune_alpha is not None and self.neftune_alpha <= 0:
            raise ConfigError(
                key="model.neftune_alpha",
                got=self.neftune_alpha,
                expected="more than 0, or None for no noise",
            )

    def load_tokenizer(self) -> Tokenizer:
        """Load the tokenizer and add ``additional_special_tokens`` to it.

        Raises:
            ModelError: the tokenizer does not exist or cannot be read.
        """
        source = self.tokenizer or find_starting_point(self.path, self.kind).tokenizer
        tokenizer = load_tokenizer(source, self.trust_remote_code)
        if self.additional_special_tokens:
            added = {"additional_special_tokens": self.additional_special_tokens}
            tokenizer.add_special_tokens(added)  # type: ignore[attr-defined]
        return tokenizer

    def load(
        self,
        tokenizer: Tokenizer,
        device: torch.device,
        adapter: LoRA | None = None,
        quantization: Quantization | None = None,
    ) -> LoadedModel:
        """Load the weights, resize the embeddings to the tokenizer, and attach the adapter.

        Args:
            tokenizer: the result of ``load_tokenizer``.
            device: device of the weights.
            adapter: adapter to train; ``None`` trains all weights.
            quantization: quantization of the frozen weights; ``None`` loads them as they are saved.

        Raises:
            ModelError: the weights cannot be read.
            ConfigError: adapter and quantization do not fit together, or the adapter names layers that the
                model does not have, or differs from the one that training continues from.
        """
        check_quantization(adapter, quantization)
        start = find_starting_point(self.path, self.kind)
        if start.adapter is not None:
            _check_continues(adapter)
            check_same_quantization(start.adapter, None if quantization is None else quantization.bits)
        model = load_weights(
            start.base,
            choose_dtype(self.dtype, device),
            attn_implementation=self.attn_implementation,
            quantization=quantization,
            device=device,
            trust_remote_code=self.trust_remote_code,
            kind=self.kind,
        )
        resize_embeddings(model, tokenizer)
        if start.adapter is not None and adapter is None:
            model = merge(load_adapter(model, start.adapter)).requires_grad_(True)
        self._prepare(model, device)
        if adapter is None:
            return LoadedModel(model, tokenizer)
        new_tokens = [
            tokenizer.convert_tokens_to_ids(name) for name in self.additional_special_tokens or []
        ]
        if start.adapter is None:
            return LoadedModel(adapter.apply(model, new_tokens, self.fused_kernels), tokenizer)
        adapted = adapter.apply(
            model,
            continued_tokens(start.adapter, new_tokens),
            self.fused_kernels,
            check=partial(check_same_adapter, start.adapter),
        )
        continue_adapter(adapted, start.adapter)
        return LoadedModel(adapted, tokenizer, continued=True)

    def _prepare(self, model: PreTrainedModel, device: torch.device) -> None:
        """Apply the options of this section to a loaded model."""
        set_model_options(model, ModelOptions(self.fused_kernels))
        enable_neftune(model, self.neftune_alpha)
        model.config.use_cache = False
        if self.gradient_checkpointing is True:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if self.fused_kernels:
            fuse_modules(model)
        # Under ZeRO-3 the weights are unusable until DeepSpeed is initialized; the first batch checks then.
        if self.kind == "causal_lm" and self.fused_kernels and not is_deepspeed_zero3_enabled():
            ids = torch.zeros(1, 2, dtype=torch.long, device=device)
            model_options(model).linear_head = has_linear_head(model, ids)


@register("model", "reward_model")
class RewardModelConfig(CausalLMConfig):
    """A decoder with a scalar head, which gives each conversation one score.

    Loaded and saved as ``AutoModelForSequenceClassification`` with one label. A language model as base gets a new
    head, drawn from the seed; a reward model keeps its head. The arguments are those of
    :class:`CausalLMConfig`. With an adapter, the head is fully trained too, in fp32.
    """

    kind: ClassVar[ModelKind] = "reward_model"


def check_quantization(adapter: LoRA | None, quantization: Quantization | None) -> None:
    """Check that an adapter can be trained on quantized weights.

    Raises:
        ConfigError: there is no adapter, or the adapter is initialized from the weights of the base.
    """
    if quantization is None:
        return
    if adapter is None:
        raise ConfigError(
            "quantization: quantized weights cannot be trained; add an adapter (adapter=dict(type='lora')), or set "
            "quantization=None",
            key="quantization",
            got=type(quantization).__name__,
        )
    if adapter.has_frozen_half:
        raise ConfigError(
            f"adapter.init_lora_weights: {adapter.init_lora_weights!r} decomposes the weights of the base, and "
            "quantized weights hold no numbers to decompose: quantizing the remainder would give another base than "
            "the saved one; set quantization=None, or init_lora_weights='default'",
            key="adapter.init_lora_weights",
            got=adapter.init_lora_weights,
        )


def _check_continues(adapter: LoRA | None) -> None:
    """Check that training can continue from a saved adapter.

    Raises:
        ConfigError: the adapter section initializes weights from the base, or ZeRO-3 shards the weights.
    """
    if adapter is not None and adapter.has_frozen_half:
        raise ConfigError(
            key="adapter.init_lora_weights",
            got=adapter.init_lora_weights,
            expected="'default', since model.path is an adapter and holds the initial weights",
        )
    if is_deepspeed_zero3_enabled():
        raise ConfigError(
            key="model.path",
            got="an adapter under ZeRO-3, which shards weights while they are read",
            expected="a whole model",
            fix=f"use --deepspeed zero2, or {MERGE_FIRST}",
        )
