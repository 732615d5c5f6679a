"""Load a model and its tokenizer, as the config declares them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from xft.errors import ConfigError, ModelError
from xft.models.adapters.lora import LoRA
from xft.models.attention import PACKED
from xft.models.forward_inputs import use_kernels
from xft.models.fused_norm_mlp import fuse_modules
from xft.models.hub import hub_options, resolve_path, unreadable
from xft.models.neftune import use_noise
from xft.models.param_shapes import whole_shape
from xft.models.quantization import NF4, Int8
from xft.models.reward_head import CLASSES, LOADERS, Kind, check_kind, kind_of, put_scalar_head
from xft.registry import register
from xft.types import Tokenizer
from xft.utils import console

DType = Literal["auto", "bfloat16", "float16", "float32"]


@dataclass
class LoadedModel:
    """A model in memory, and its tokenizer."""

    model: PreTrainedModel | PeftModel
    tokenizer: Tokenizer

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model below the adapter, if there is one."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def packs(self) -> bool:
        """Whether samples can stand behind each other without seeing each other.

        Attention can be told where a sample ends; convolutions and recurrent layers cannot.
        """
        base: Any = self.base
        kinds = set(getattr(base.config, "layer_types", None) or [])
        remembers = bool(getattr(base, "_is_stateful", False)) or bool(
            kinds - {"full_attention", "sliding_attention", "chunked_attention"}
        )
        return bool(getattr(base, "_supports_attention_backend", False)) and not remembers


@register("model", "causal_lm")
class CausalLM:
    """A decoder that predicts the next token.

    Args:
        path: a model folder, ``xft://smollm2-135m-instruct``, or ``owner/name`` of the hub.
        dtype: of the weights; ``auto`` is bf16 where the hardware computes in it, fp32 elsewhere.
        attention: ``auto`` is ours for packed samples where the model can use it; or a name that
            transformers knows (``sdpa``, ``eager``, ``flash_attention_2``).
        adapter: what is trained; ``None`` trains all weights.
        quantization: how the frozen weights are held; ``None`` is as they are.
        gradient_checkpointing: compute activations again in the backward pass: less memory, about a third more
            time. ``auto`` does so in as many layers as it takes for the largest batch to fit; ``True`` in all.
        add_tokens: special tokens to add to the tokenizer, with embeddings that are trained.
        tokenizer: a folder or hub name, where it is not the model's.
        trust_remote_code: run Python code that lies beside the weights. Off unless you read it.
        neftune_alpha: noise on the embeddings while the model is trained, evenly from ``±alpha / sqrt(L · d)`` for
            a sample of L tokens and a model of width d (NEFTune, Jain et al. 2023,
            https://arxiv.org/abs/2310.05914, with 5 to 15); ``None`` is none.
        kernels: ``auto`` computes with :mod:`xft.kernels` where the model can; ``plain`` with the
            operations of transformers, peft and torch alone.
    """

    kind: ClassVar[Kind] = "causal_lm"

    def __init__(
        self,
        path: str,
        dtype: DType = "auto",
        attention: str = "auto",
        adapter: LoRA | None = None,
        quantization: NF4 | Int8 | None = None,
        gradient_checkpointing: bool | Literal["auto"] = "auto",
        add_tokens: list[str] | None = None,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        kernels: Literal["auto", "plain"] = "auto",
        neftune_alpha: float | None = None,
    ) -> None:
        if quantization is not None and adapter is None:
            raise ConfigError(
                "model.quantization: quantised weights cannot be trained; add an adapter "
                "(adapter=dict(type='lora')), or set quantization=None"
            )
        if quantization is not None and adapter is not None and getattr(adapter, "splits", False):
            raise ConfigError(
                f"adapter.init: {adapter.init!r} splits the weights that the base has, and quantised ones hold no "
                "numbers to split: what is left of them would be quantised anew, into another base than the one "
                "on the disk; set quantization=None, or init='lora'"
            )
        if neftune_alpha is not None and neftune_alpha <= 0:
            raise ConfigError(
                f"model.neftune_alpha: got {neftune_alpha}, expected more than 0, or None for no noise"
            )
        self.path = path
        self.dtype = dtype
        self.attention = attention
        self.adapter = adapter
        self.quantization = quantization
        self.gradient_checkpointing = gradient_checkpointing
        self.add_tokens = list(add_tokens or [])
        self.tokenizer_path = tokenizer
        self.trust_remote_code = trust_remote_code
        self.kernels = kernels
        self.neftune_alpha = neftune_alpha

    def load_tokenizer(self) -> Tokenizer:
        """Load the tokenizer, with ``add_tokens`` added.

        Raises:
            ModelError: there is none, or it cannot be read.
        """
        tokenizer = load_tokenizer(self.tokenizer_path or self.path, self.trust_remote_code)
        if self.add_tokens:
            tokenizer.add_special_tokens({"additional_special_tokens": self.add_tokens})  # type: ignore[attr-defined]
        return tokenizer

    def load(self, tokenizer: Tokenizer, device: torch.device) -> LoadedModel:
        """Load the weights, resize the embeddings to the tokenizer, put the adapter on.

        Args:
            tokenizer: what ``load_tokenizer`` gave.
            device: where the weights go.

        Raises:
            ModelError: the weights cannot be read.
            ConfigError: the adapter names layers that the model does not have.
        """
        dtype = choose_dtype(self.dtype, device)
        model = load_weights(
            self.path,
            dtype,
            attention=self.attention,
            quantization=self.quantization,
            device=device,
            trust_remote_code=self.trust_remote_code,
            kind=self.kind,
        )
        # What peft writes down as the base of the adapter: it must hold from any folder.
        where = resolve_path(self.path)
        model.name_or_path = str(Path(where).absolute()) if Path(where).is_dir() else where
        use_noise(model, self.neftune_alpha)
        resize_embeddings(model, tokenizer)
        new_tokens = [tokenizer.convert_tokens_to_ids(each) for each in self.add_tokens]
        model.config.use_cache = False
        if self.gradient_checkpointing is True:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        fused = self.kernels == "auto"
        use_kernels(model, fused)
        if fused:
            fuse_modules(model)
        if self.adapter is None:
            return LoadedModel(model, tokenizer)
        return LoadedModel(self.adapter.apply(model, new_tokens, fused), tokenizer)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type that a name stands for on a device; ``auto`` is bf16 where it is computed in."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    return torch.float32


def load_tokenizer(path: str, trust_remote_code: bool = False) -> Tokenizer:
    """Load a tokenizer from a folder, the hub, or the embedded model.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    where = resolve_path(path)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(where, **hub_options(where, trust_remote_code))
    except Exception as error:
        raise ModelError(unreadable("tokenizer", path, error)) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return cast(Tokenizer, tokenizer)


def load_config(path: str, trust_remote_code: bool = False) -> Any:
    """Load the config of a model, as transformers has it.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    where = resolve_path(path)
    try:
        return AutoConfig.from_pretrained(where, **hub_options(where, trust_remote_code))
    except Exception as error:
        raise ModelError(unreadable("model", path, error)) from error


def load_weights(
    path: str,
    dtype: torch.dtype | Literal["auto"],
    attention: str = "auto",
    quantization: NF4 | Int8 | None = None,
    device: torch.device | None = None,
    trust_remote_code: bool = False,
    kind: Kind | None = None,
) -> PreTrainedModel:
    """Load the weights of a model.

    Args:
        path: as in :class:`CausalLM`, and so are those that follow.
        dtype: of the weights.
        attention: see there.
        quantization: see there.
        device: where the weights go.
        trust_remote_code: see there.
        kind: of the model; by default what the folder holds. A reward model out of a language model
            has a new head.

    Raises:
        ModelError: they cannot be read, or are of another kind.
    """
    console.silence_progress_bars()
    where = resolve_path(path)
    config = load_config(path, trust_remote_code)
    kind = kind or kind_of(config)
    check_kind(path, config, kind)
    options: dict[str, Any] = hub_options(where, trust_remote_code)
    if quantization is not None:
        compute = torch.bfloat16 if dtype == "auto" else dtype
        options["quantization_config"] = quantization.config(compute)
    # What ranks share out as it is read must be placed by nobody else.
    shared_out = quantization is None and is_deepspeed_zero3_enabled()
    if not shared_out and device is not None and (device.type == "cuda" or quantization is not None):
        options["device_map"] = {"": device}
    if kind == "reward_model":
        options["num_labels"] = 1
    if attention == "auto":
        attention = _choose_attention(config, kind)
    try:
        model, said = LOADERS[kind].from_pretrained(
            where, dtype=dtype, attn_implementation=attention, output_loading_info=True, **options
        )
    except Exception as error:
        raise ModelError(unreadable("model", path, error)) from error
    if kind == "reward_model":
        put_scalar_head(model, path, said["missing_keys"])
    _keep_quantised_weights(model)
    if shared_out and device is not None:
        for each in model.buffers():
            each.data = each.data.to(device)
    elif device is not None and "device_map" not in options:
        model.to(device)
    return cast(PreTrainedModel, model)


def _keep_quantised_weights(model: PreTrainedModel) -> None:
    """On a CPU, bitsandbytes repacks 4-bit weights for speed when a model is evaluated, and rounds
    their constants to bf16 on the way: the first validation would change the base that is trained."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def resize_embeddings(model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Make room for tokens that the model has no embedding for. Never shrinks."""
    embeddings: Any = model.get_input_embeddings()
    rows = whole_shape(embeddings.weight)[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=True)


def _choose_attention(config: Any, kind: Kind) -> str:
    """Ours, unless the architecture does something in attention that ours does not know."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    special = getattr(text, "attn_logit_softcapping", None) or getattr(text, "model_type", "") == "gpt_oss"
    try:
        supported = bool(CLASSES[kind][type(config)]._supports_attention_backend)
    except KeyError:
        supported = False
    return PACKED if supported and not special else ("eager" if special else "sdpa")
