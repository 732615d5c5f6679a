"""Configs of models: ``model=dict(type="causal_lm", ...)`` and ``type="reward_model"``."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from xft.errors import ConfigError
from xft.models.activation_checkpointing import checkpoint_all_layers
from xft.models.adapters.lora import LoRA
from xft.models.adapters.merging import merge
from xft.models.adapters.saved_adapter import continue_adapter, load_adapter
from xft.models.compiled_layers import compile_layers
from xft.models.fused_norm_mlp import fuse_modules
from xft.models.loading import (
    DType,
    LoadedModel,
    choose_dtype,
    load_config,
    load_tokenizer,
    load_weights,
    resize_embeddings,
)
from xft.models.model_options import ModelOptions, model_options, set_model_options
from xft.models.model_source import (
    MERGE_FIRST,
    ModelSource,
    check_same_adapter,
    check_same_quantization,
    check_same_rope,
    continued_tokens,
    resolve_model_source,
)
from xft.models.neftune import enable_neftune
from xft.models.param_shapes import full_shape, is_sharded
from xft.models.quantization import Quantization
from xft.models.reward_head import ModelKind
from xft.models.routing import find_routing
from xft.models.scoring import has_linear_head
from xft.models.stored_formats import check_trainable_format, stored_format
from xft.models.vision.restricted_targets import freeze_other_parts, restrict_to_language
from xft.registry import register
from xft.types import ImageProcessor, Tokenizer
from xft.types.ranges import NonNegative, Positive


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
            time. ``auto`` recomputes just enough layers for the largest batch to fit; ``True`` all of them; ``offload``
            all of them, and on a GPU keeps the inputs of the layers in host memory.
        additional_special_tokens: special tokens to add to the tokenizer, with trainable embeddings.
        tokenizer: a folder or hub name, if the tokenizer is not the model's own.
        trust_remote_code: run Python code from the model folder. Read the code before you enable it.
        fused_kernels: compute with :mod:`xft.kernels` where the model supports it; ``False`` uses only the
            operations of transformers, peft and torch.
        torch_compile: compile the training step of each decoder layer. The first steps take longer, by half a minute
            or more; worth it on a GPU, or for a long run.
        neftune_alpha: noise on the embeddings in training, uniform in ``±alpha / sqrt(L · d)`` for a sample of
            L tokens and hidden size d (NEFTune, Jain et al. 2023, https://arxiv.org/abs/2310.05914, with 5 to
            15); ``None`` adds no noise.
        router_aux_loss_coef: coefficient of the auxiliary loss that balances the load of experts; 0 adds none.
            ``None``, as in transformers, means 0 unless the model's config has ``output_router_logits``, and then the
            coefficient in it. Families without an auxiliary loss (DeepSeek) have none.
        rope_parameters: changes of the rotary embedding for long samples, in the terms of transformers:
            ``dict(rope_type='yarn', factor=4)``; ``None`` keeps that of the model.

    Raises:
        ConfigError: ``neftune_alpha`` is not positive.
    """

    path: str
    dtype: DType = "auto"
    attn_implementation: str = "auto"
    gradient_checkpointing: bool | Literal["auto", "offload"] = "auto"
    additional_special_tokens: list[str] | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    fused_kernels: bool = True
    torch_compile: bool = False
    neftune_alpha: Positive | None = None
    router_aux_loss_coef: NonNegative | None = None
    rope_parameters: dict[str, Any] | None = None

    kind: ClassVar[ModelKind] = "causal_lm"

    def __post_init__(self) -> None:
        if self.neftune_alpha is not None and self.neftune_alpha <= 0:
            raise ConfigError(
                key="model.neftune_alpha",
                got=self.neftune_alpha,
                expected="more than 0, or None for no noise",
            )

    def resolve_source(self) -> ModelSource:
        """Find the base model, the adapter and the tokenizer that ``path`` names.

        Raises:
            ModelError: there are none, or they belong to another kind of model.
        """
        return resolve_model_source(self.path, self.kind)

    def load_tokenizer(self) -> Tokenizer:
        """Load the tokenizer and add ``additional_special_tokens`` to it.

        Raises:
            ModelError: the tokenizer does not exist or cannot be read.
        """
        source = self.tokenizer or self.resolve_source().tokenizer
        tokenizer = load_tokenizer(source, self.trust_remote_code)
        if self.additional_special_tokens:
            added = {"additional_special_tokens": self.additional_special_tokens}
            tokenizer.add_special_tokens(added)  # type: ignore[attr-defined]
        return tokenizer

    def load_processor(self, tokenizer: Tokenizer) -> ImageProcessor | None:
        """Load the image processor; ``None`` for a text model."""
        return None

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
            ConfigError: adapter and quantization do not fit together; the adapter names layers that the model does
                not have, or differs from the one that training continues from; or the model has no auxiliary loss for
                ``router_aux_loss_coef``.
        """
        check_quantization(adapter, quantization)
        source = self.resolve_source()
        if source.adapter is not None:
            _check_continues(adapter)
            check_same_quantization(source.adapter, None if quantization is None else quantization.bits)
            check_same_rope(source.adapter, self.rope_parameters)
        config = load_config(source.base, self.trust_remote_code)
        check_trainable_format(source.base, config, has_adapter=adapter is not None)
        model = load_weights(
            source.base,
            choose_dtype(self.dtype, device),
            attn_implementation=self.attn_implementation,
            quantization=quantization,
            device=device,
            trust_remote_code=self.trust_remote_code,
            kind=self.kind,
            rope_parameters=self.rope_parameters,
        )
        resize_embeddings(model, tokenizer)
        if source.adapter is not None and adapter is None:
            model = merge(load_adapter(model, source.adapter)).requires_grad_(True)
        self._prepare(model, device, stored_format(config))
        if adapter is None:
            self._freeze_parts(model)
            return LoadedModel(model, tokenizer)
        adapter = self._select_targets(adapter, model)
        new_tokens = [
            tokenizer.convert_tokens_to_ids(name) for name in self.additional_special_tokens or []
        ]
        if source.adapter is None:
            return LoadedModel(adapter.apply(model, new_tokens, self.fused_kernels), tokenizer)
        adapted = adapter.apply(
            model,
            continued_tokens(source.adapter, new_tokens),
            self.fused_kernels,
            check=partial(check_same_adapter, source.adapter),
        )
        continue_adapter(adapted, source.adapter)
        return LoadedModel(adapted, tokenizer, continued=True)

    def _prepare(self, model: PreTrainedModel, device: torch.device, stored: str | None) -> None:
        """Apply the options of this section to a loaded model."""
        self._set_options(
            model, device, ModelOptions(self.fused_kernels, self.router_aux_loss_coef, stored)
        )
        if self.fused_kernels:
            fuse_modules(model)
        if self.torch_compile:
            compile_layers(model, device)
        self._check_head(model, device)

    def _freeze_parts(self, model: PreTrainedModel) -> None:
        """Freeze the parts of a model that are not trained, if it is trained without an adapter."""
        freeze_other_parts(model)

    def _select_targets(self, adapter: LoRA, model: PreTrainedModel) -> LoRA:
        """Return the adapter section with the layers of the model that it may adapt."""
        return restrict_to_language(adapter, model)

    def _set_options(self, model: PreTrainedModel, device: torch.device, options: ModelOptions) -> None:
        set_model_options(model, options)
        enable_neftune(model, self.neftune_alpha)
        if self.router_aux_loss_coef is not None:
            find_routing(model)  # refuses a coefficient that no loss has
        model.config.use_cache = False
        if self.gradient_checkpointing in (True, "offload"):
            # On a CPU, activations are in host memory already, and transformers fails to pin them.
            checkpoint_all_layers(model, self.gradient_checkpointing == "offload" and device.type != "cpu")

    def _check_head(self, model: PreTrainedModel, device: torch.device) -> None:
        """Check whether head and loss can be one operation."""
        # Sharded weights are unusable until the strategy is prepared; the first batch checks then.
        sharded = any(map(is_sharded, model.parameters()))
        if self.kind != "reward_model" and self.fused_kernels and not sharded:
            # Several ids: the embedding of one, such as that of padding, may be zero, and with it all logits.
            embeddings: Any = model.get_input_embeddings()
            rows = full_shape(embeddings.weight)[0]
            ids = torch.arange(0, rows, max(1, rows // 4), device=device)[None]
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
