"""Load the weights, the config and the tokenizer of a model."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from xft.distributed.devices import has_native_bf16
from xft.errors import ModelError
from xft.models.attention import ATTN_IMPLEMENTATION
from xft.models.checks.attention_checks import check_attention, choose_attention
from xft.models.checks.measure import AttentionCheck
from xft.models.expert_weights import recompute_expert_weights
from xft.models.generation_defaults import repair_generation_config
from xft.models.hub import hub_options, load_error, resolve_path
from xft.models.mapped_families import mapped_model_type
from xft.models.mapped_tokenizers import load_mapped_tokenizer
from xft.models.model_options import model_options
from xft.models.param_shapes import full_shape
from xft.models.quantization import NF4, Quantization
from xft.models.reward_head import HEAD, LOADERS, ModelKind, attach_score_head, check_kind, model_kind_of
from xft.models.rope import set_rope_parameters
from xft.models.segments import (
    has_length_dependent_rope,
    segment_modules,
    separate_rotary_embeddings,
)
from xft.models.sharded_reading import gather_modules, reading_ranks
from xft.models.stored_formats import (
    DEQUANTIZED,
    check_stored_format,
    placement_options,
    stored_format,
)
from xft.models.vision.parts import unquantized_modules, vision_attention
from xft.models.weight_checks import check_complete, check_files_finite, check_finite, named_weights
from xft.types import ImageProcessor, Tokenizer
from xft.utils import console

DType = Literal["auto", "bfloat16", "float16", "float32"]
FLOAT_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass
class LoadedModel:
    """A model in memory and its tokenizer.

    Attributes:
        model: of transformers or peft.
        tokenizer: of the model.
        measured_packing_problem: why samples must not be packed, as measured on this model; ``None`` if a small copy of
            the model is measured.
        continued: the trainable adapter was loaded from a folder: disabling it does not give the initial model.
        system: system text that conversations without one were trained with, of a saved model; empty for none.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: Tokenizer
    continued: bool = False
    measured_packing_problem: str | None = None
    system: str = ""

    @property
    def processor(self) -> ImageProcessor | None:
        """Return the image processor; ``None`` for a text model."""
        return model_options(self.base).processor

    def __post_init__(self) -> None:
        separate_rotary_embeddings(self.base)
        if self.base.config._attn_implementation == ATTN_IMPLEMENTATION:
            segment_modules(self.base, self._check.segmented)

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
        if self.measured_packing_problem is not None:
            return self.measured_packing_problem
        return self._check.packing_problem

    @property
    def split_problem(self) -> str:
        """Return why a sample cannot be split over ranks; empty if it can."""
        classes = ", ".join(segmented.name for segmented in self._check.segmented)
        if has_length_dependent_rope(self.base):
            classes = classes or "a rotary embedding that depends on the length"
        return self.packing_problem or (f"{classes} needs all tokens of a sample" if classes else "")

    @property
    def _check(self) -> AttentionCheck:
        return check_attention(self.base.config, self.base.config._attn_implementation)

    def check_batches(self) -> None:
        """Check that a batch of several samples, packed or padded, gives the logits of each sample alone.

        Raises:
            ModelError: neither does, as measured.
        """
        check = self._check
        if self.measured_packing_problem is None and not (check.isolates or check.pads or check.problem):
            raise ModelError(
                key="model.path",
                got=self.base.config.model_type,
                expected="a model that keeps the samples of a batch apart; measured: logits of this one differ by "
                f"{check.padded_error:.0%} in a padded batch",
            )


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve the name of a dtype; ``auto`` is bf16 on hardware with native bf16 arithmetic."""
    if name != "auto":
        return FLOAT_DTYPES[name]
    if has_native_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def load_tokenizer(path: str, trust_remote_code: bool = False) -> Tokenizer:
    """Load a tokenizer from a folder, the hub, or the bundled model.

    Raises:
        ModelError: the tokenizer does not exist or cannot be read.
    """
    source = resolve_path(path)
    try:
        if (model_type := mapped_model_type(source)) is not None:
            tokenizer = load_mapped_tokenizer(source, model_type)
        else:
            tokenizer = AutoTokenizer.from_pretrained(source, **hub_options(source, trust_remote_code))
    except ModelError:
        raise
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
        options = hub_options(source, trust_remote_code)
        return cast(PretrainedConfig, AutoConfig.from_pretrained(source, **options))
    except Exception as error:
        raise ModelError(load_error("model", path, error)) from error


def load_weights(
    path: str,
    dtype: torch.dtype | Literal["auto"],
    attn_implementation: str = "auto",
    quantization: Quantization | None = None,
    device: torch.device | None = None,
    trust_remote_code: bool = False,
    kind: ModelKind | None = None,
    rope_parameters: Mapping[str, Any] | None = None,
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
        rope_parameters: changes of the rotary embedding (:func:`~xft.models.rope.set_rope_parameters`).

    Raises:
        ModelError: the weights cannot be read, are incomplete or not finite, or the folder holds another kind.
        ConfigError: the weights are quantized already.
    """
    console.silence_progress_bars()
    source = resolve_path(path)
    config = load_config(path, trust_remote_code)
    kind = kind or model_kind_of(config)
    check_kind(path, config, kind)
    check_stored_format(path, config, None if quantization is None else type(quantization).__name__)
    # DeepSpeed itself places weights that it shards while they are read.
    sharded = quantization is None and is_deepspeed_zero3_enabled()
    options: dict[str, Any] = hub_options(source, trust_remote_code)
    choose = vision_attention if kind == "vision_language" else choose_attention
    options["attn_implementation"] = choose(config, attn_implementation)
    skipped = None if quantization is None else unquantized_modules(config, kind)
    options |= placement_options(config, dtype, quantization, None if sharded else device, skipped)
    options |= {"num_labels": 1} if kind == "reward_model" else {}
    if rope_parameters is not None:
        _use_changed_config(options, config, rope_parameters)
    options |= {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": not sharded}
    try:
        with quantization.loading_context() if quantization is not None else nullcontext():
            model, loading_info = LOADERS[kind].from_pretrained(source, **options)
    except Exception as error:
        raise ModelError(load_error("model", path, error)) from error
    check_complete(path, config, kind, model, loading_info)  # weights of other sizes too
    if isinstance(quantization, NF4) and stored_format(config) is not None:
        quantization.quantize_loaded(model, device or torch.device("cpu"), skipped)
    _adapt(model, path, config, kind)
    if device is not None and "device_map" not in options and quantization is None:
        _move(model, device, sharded)
    check_finite(path, named_weights(model))
    if quantization is not None:
        check_files_finite(path, source, *reading_ranks(model))
    return cast(PreTrainedModel, model)


def _use_changed_config(
    options: dict[str, Any], config: PretrainedConfig, rope_parameters: Mapping[str, Any]
) -> None:
    """Change the rotary embedding of a config, and load the model with it; other fields move into the config."""
    set_rope_parameters(config, rope_parameters)
    config.num_labels = options.pop("num_labels", config.num_labels)
    options["config"] = config


def _adapt(model: PreTrainedModel, path: str, config: PretrainedConfig, kind: ModelKind) -> None:
    """Prepare a loaded model for training and saving."""
    if kind == "reward_model":
        gather_modules(model, [layer for name, layer in model.named_children() if name == HEAD])
        attach_score_head(model, path)
    if stored_format(config) in DEQUANTIZED:
        # transformers would save the weights under the names of the format.
        model._weight_conversions = None  # type: ignore[assignment]
    repair_generation_config(model)
    model.name_or_path = _lasting_path(path)
    _keep_quantized_weights(model)
    recompute_expert_weights(model)


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
        head = model.get_output_embeddings()
        gather_modules(model, [embeddings] if head is None else [embeddings, head])
        model.resize_token_embeddings(len(tokenizer), mean_resizing=True)
