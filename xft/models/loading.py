"""Load the weights, the config and the tokenizer of a model."""

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from xft.errors import ModelError
from xft.models.attention import PACKED
from xft.models.hub import hub_options, resolve_path, unreadable
from xft.models.param_shapes import whole_shape
from xft.models.quantization import Quantization
from xft.models.reward_head import CLASSES, LOADERS, Kind, check_kind, kind_of, put_scalar_head
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
    attn_implementation: str = "auto",
    quantization: Quantization | None = None,
    device: torch.device | None = None,
    trust_remote_code: bool = False,
    kind: Kind | None = None,
) -> PreTrainedModel:
    """Load the weights of a model.

    Args:
        path: a model folder, the name of the bundled model, or ``owner/name`` of the hub.
        dtype: of the weights.
        attn_implementation: as in :class:`~xft.models.model_config.CausalLMConfig`.
        quantization: quantization of the weights; ``None`` loads them as they are saved.
        device: device of the weights; the CPU by default.
        trust_remote_code: run Python code from the model folder.
        kind: kind to load the model as; by default the kind that the folder holds. A reward model loaded from
            a language model gets a new head.

    Raises:
        ModelError: the weights cannot be read, or the folder holds another kind.
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
    if attn_implementation == "auto":
        attn_implementation = _choose_attention(config, kind)
    try:
        model, said = LOADERS[kind].from_pretrained(
            where, dtype=dtype, attn_implementation=attn_implementation, output_loading_info=True, **options
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
