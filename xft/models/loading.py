"""Load the weights, the config and the tokenizer of a model."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from xft.errors import ModelError
from xft.models.capability import check_attention, choose_attention
from xft.models.generation_defaults import repair_generation_config
from xft.models.hub import hub_options, load_error, resolve_path
from xft.models.param_shapes import full_shape
from xft.models.quantization import Quantization
from xft.models.reward_head import LOADERS, ModelKind, attach_score_head, check_kind, model_kind_of
from xft.models.weight_checks import check_complete, check_files_finite, check_finite, named_weights
from xft.types import Tokenizer
from xft.utils import console

DType = Literal["auto", "bfloat16", "float16", "float32"]
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass
class LoadedModel:
    """A model in memory and its tokenizer.

    Attributes:
        model: of transformers or peft.
        tokenizer: of the model.
        continued: the trainable adapter was loaded from a folder: disabling it does not give the initial model.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: Tokenizer
    continued: bool = False

    @property
    def base(self) -> PreTrainedModel:
        """Return the transformers model below the adapter, or the model itself."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def supports_packing(self) -> bool:
        """Return whether packed samples are isolated from each other, as measured."""
        return not self.packing_problem

    @property
    def packing_problem(self) -> str:
        """Return why samples must not be packed; empty if they may be."""
        return check_attention(self.base.config, self.base.config._attn_implementation).packing_problem


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve the name of a dtype; ``auto`` is bf16 on hardware with native bf16 arithmetic."""
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_has_bf16() else torch.float32
    return torch.float32


def _cpu_has_bf16() -> bool:
    """Return whether the CPU has bf16 instructions.

    On x86, torch also reports support if it emulates bf16 with AVX512, which is slower than fp32.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def load_tokenizer(path: str, trust_remote_code: bool = False) -> Tokenizer:
    """Load a tokenizer from a folder, the hub, or the bundled model.

    Raises:
        ModelError: the tokenizer does not exist or cannot be read.
    """
    source = resolve_path(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **hub_options(source, trust_remote_code))
    except Exception as error:
        raise ModelError(load_error("tokenizer", path, error)) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return cast(Tokenizer, tokenizer)


def load_config(path: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load the transformers config of a model.

    Raises:
        ModelError: the config does not exist or cannot be read.
    """
    source = resolve_path(path)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            source, **hub_options(source, trust_remote_code)
        )
    except Exception as error:
        raise ModelError(load_error("model", path, error)) from error
    return config


def load_weights(
    path: str,
    dtype: torch.dtype | Literal["auto"],
    attn_implementation: str = "auto",
    quantization: Quantization | None = None,
    device: torch.device | None = None,
    trust_remote_code: bool = False,
    kind: ModelKind | None = None,
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
        ModelError: the weights cannot be read, are incomplete or not finite, or the folder holds another kind.
    """
    console.silence_progress_bars()
    source = resolve_path(path)
    config = load_config(path, trust_remote_code)
    kind = kind or model_kind_of(config)
    check_kind(path, config, kind)
    # DeepSpeed itself places weights that it shards while they are read.
    sharded = quantization is None and is_deepspeed_zero3_enabled()
    options: dict[str, Any] = hub_options(source, trust_remote_code)
    options["attn_implementation"] = choose_attention(config, attn_implementation)
    if quantization is not None:
        options["quantization_config"] = quantization.config(torch.bfloat16 if dtype == "auto" else dtype)
    if not sharded and device is not None and (device.type == "cuda" or quantization is not None):
        options["device_map"] = {"": device}
    if kind == "reward_model":
        options["num_labels"] = 1
    try:
        model, loading_info = LOADERS[kind].from_pretrained(
            source,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=not sharded,  # check_complete refuses them, with their names
            **options,
        )
    except Exception as error:
        raise ModelError(load_error("model", path, error)) from error
    check_complete(path, config, kind, model, loading_info)
    if kind == "reward_model":
        attach_score_head(model, path)
    repair_generation_config(model)
    model.name_or_path = _lasting_path(path)
    _keep_quantized_weights(model)
    if device is not None and "device_map" not in options:
        _move(model, device, sharded)
    check_finite(path, named_weights(model))
    if quantization is not None:
        check_files_finite(path, source)
    return cast(PreTrainedModel, model)


def _move(model: nn.Module, device: torch.device, sharded: bool) -> None:
    """Move a model to a device, or its buffers alone if DeepSpeed shards the weights."""
    if not sharded:
        model.to(device)
        return
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)


def _lasting_path(path: str) -> str:
    """Return the name that peft saves as the base of an adapter: a folder must be valid from any working directory."""
    folder = Path(path).expanduser()
    return str(folder.absolute()) if folder.is_dir() else path


def _keep_quantized_weights(model: PreTrainedModel) -> None:
    """Prevent bitsandbytes from repacking 4-bit weights on a CPU.

    In evaluation it repacks them for speed and rounds their constants to bf16: the first validation would change
    the base of the adapter.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def resize_embeddings(model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Grow the embeddings to the size of the tokenizer. They never shrink."""
    embeddings: Any = model.get_input_embeddings()
    rows = full_shape(embeddings.weight)[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=True)
