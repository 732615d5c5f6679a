"""Save a model, find a saved model, load it.

A saved model is a folder with weights (an adapter, or a whole model), the tokenizer, the chat
template and the generation config, as plain ``peft`` and ``transformers`` read them; and
``xft_metadata.json``, which names the base model of an adapter and the training dtype.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from xft.errors import CheckpointError, ModelError
from xft.models import bundled_model
from xft.models.adapters.saved_adapter import adapter_base, adapter_model_kind, is_adapter, load_adapter
from xft.models.generation import stop_ids
from xft.models.generation_defaults import write_generation_config
from xft.models.loading import (
    FLOAT_DTYPES,
    LoadedModel,
    choose_dtype,
    load_config,
    load_tokenizer,
    load_weights,
    resize_embeddings,
)
from xft.models.mapped_families import copy_model_code
from xft.models.model_options import model_options
from xft.models.portable_files import make_portable
from xft.models.quantization import NF4, Int8, Quantization
from xft.models.reward_head import ModelKind, is_reward_model, model_kind_of, set_pad_token
from xft.models.vision.isolation import attach_processor, packing_problem
from xft.models.vision.processor import VisionProcessor
from xft.templates import BoundTemplate
from xft.templates.image_parts import with_image_parts
from xft.templates.jinja_env import special_tokens_of
from xft.types import Tokenizer
from xft.utils.paths import METADATA_FILE, SCHEME
from xft.version import __version__


@dataclass(frozen=True)
class ModelMetadata:
    """Contents of ``xft_metadata.json``.

    Attributes:
        base: base model of an adapter, as the config named it.
        dtype: dtype of the weights in training.
        bits: 4 or 8 if the base was quantized, else ``None``.
        double_quant: as in :class:`NF4`.
        attn_implementation: as in the config.
        version: version of xft.
        rope_parameters: as in the config, if they are not in ``config.json`` of the base of an adapter.
        step: step of the weights, if they are those of an earlier checkpoint; ``None`` for the last step of the run.
        system: system text that conversations without one were trained with; empty for none.
    """

    base: str
    dtype: str
    bits: int | None = None
    double_quant: bool = True
    attn_implementation: str = "auto"
    version: str = __version__
    step: int | None = None
    rope_parameters: dict[str, Any] | None = None
    system: str = ""

    def __post_init__(self) -> None:
        if not (
            isinstance(self.base, str)
            and isinstance(self.system, str)
            and isinstance(self.attn_implementation, str)
            and self.bits in (None, 4, 8)
            and (self.step is None or type(self.step) is int)
            and (self.rope_parameters is None or isinstance(self.rope_parameters, dict))
            and self.dtype in FLOAT_DTYPES
        ):
            raise ValueError(f"got {self!r}")


def save_model(
    model: PreTrainedModel | PeftModel,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    metadata: ModelMetadata,
    folder: Path,
    **options: Any,
) -> None:
    """Write a model into an existing folder.

    Args:
        model: the model; of a model with an adapter, only the adapter is written.
        tokenizer: tokenizer of the model.
        template: the chat template that it was trained with; ``None`` keeps the tokenizer's.
        metadata: contents of ``xft_metadata.json``.
        folder: an existing folder.
        options: arguments of the model's ``save_pretrained``, e.g. ``max_shard_size``.
    """
    is_adapter_only = isinstance(model, PeftModel)
    if is_adapter_only:
        # The rows of new tokens are saved with the adapter; by default peft would save the full embeddings too,
        # once for each layer that shares them.
        options["save_embedding_layers"] = False
    # Training disables the KV cache; the saved model is for generation.
    config: Any = model.config
    cached, config.use_cache = config.use_cache, True
    try:
        model.save_pretrained(folder, **options)
    finally:
        config.use_cache = cached
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    processor = model_options(model).processor
    if processor is not None:
        processor.save(folder)
    saved: Any = tokenizer
    before = tokenizer.chat_template
    try:
        if template is not None:
            saved.chat_template = template.source
            if processor is not None:
                specials = special_tokens_of(tokenizer)
                saved.chat_template = with_image_parts(template.source, processor.placeholder, specials)
        saved.save_pretrained(folder)
    finally:
        saved.chat_template = before
    stops = None
    if not is_reward_model(model) and (template is not None or not is_adapter_only):
        stops = None if template is None else stop_ids(tokenizer, template)
        pad = None if template is None else tokenizer.pad_token_id
        write_generation_config(model, stops, pad, folder)
    make_portable(folder, stops)
    if not isinstance(model, PeftModel):
        copy_model_code(model, folder)
    (folder / METADATA_FILE).write_text(json.dumps(asdict(metadata), indent=2) + "\n", encoding="utf-8")


def find_saved_model(path: Path) -> Path:
    """Return the folder with the weights: ``path`` itself, or a subfolder of a run folder.

    Of a run folder this is ``final``, or the last checkpoint if the run did not end.

    Raises:
        ModelError: there is no saved model.
    """
    for candidate in (path, path / "final", path / "checkpoints" / "last"):
        if is_adapter(candidate) or (candidate / "config.json").is_file():
            return candidate.resolve()
    if (path / "config.py").is_file():
        raise ModelError(f"{path}: the run has saved nothing yet")
    what = "is not a run folder, an adapter or a model" if path.is_dir() else "does not exist"
    raise ModelError(f"{path}: {what}; expected a folder that xft, peft or transformers wrote")


def read_metadata(folder: Path) -> ModelMetadata | None:
    """Read ``xft_metadata.json``; ``None`` if the folder has none.

    Raises:
        CheckpointError: the file is broken.
    """
    file = folder / METADATA_FILE
    if not file.is_file():
        return None
    try:
        return ModelMetadata(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{file}: broken ({error})") from error


def load_saved_model(
    path: str,
    adapter: str | None = None,
    bits: int | None = None,
    dtype: str | None = None,
    device: torch.device | None = None,
    trust_remote_code: bool = False,
    kind: ModelKind | None = None,
) -> LoadedModel:
    """Load a run folder, a checkpoint, an adapter, a model folder, or a model by name.

    Args:
        path: path or name to load.
        adapter: adapter to load on top, if ``path`` is a model.
        bits: quantize the base to 4 or 8 bits; the bits of training by default.
        dtype: dtype of the weights, or ``stored`` for that of their files; by default the training dtype, else ``auto``.
        device: device of the weights; the CPU by default.
        trust_remote_code: run Python code from the model folder. The folder itself cannot enable this.
        kind: required kind; any by default. A vision-language model is a language model too.

    Raises:
        ModelError: no model exists, it is of another kind, or the adapter belongs to another model.
    """
    device = device or torch.device("cpu")
    folder = find_saved_model(Path(path)) if _is_local(path) else None
    on_top = find_saved_model(Path(adapter)) if adapter is not None else None
    if folder is not None and is_adapter(folder):
        if on_top is not None:
            raise ModelError(f"{path}: is an adapter itself; give --adapter with the model's path")
        base = adapter_base_path(folder)
        folder, on_top = None, folder
    else:
        base = path if folder is None else str(folder)
    if on_top is not None and not is_adapter(on_top):
        raise ModelError(f"{adapter}: is a whole model, expected an adapter")
    written = on_top or folder
    metadata = read_metadata(written) if written is not None else None
    held = _kind(base, on_top, trust_remote_code)
    if kind not in (None, held) and (kind, held) != ("causal_lm", "vision_language"):
        raise ModelError(f"{path}: {_OTHER[held]}")
    bits = bits or (metadata.bits if metadata is not None else None)
    model = load_weights(
        base,
        "auto"
        if dtype == "stored"
        else choose_dtype(dtype or (metadata.dtype if metadata else "auto"), device),
        attn_implementation=metadata.attn_implementation if metadata is not None else "auto",
        quantization=_quantizer(bits, metadata.double_quant if metadata is not None else True),
        device=device,
        trust_remote_code=trust_remote_code,
        kind=held,
        rope_parameters=metadata.rope_parameters if metadata is not None and on_top is not None else None,
    )
    loaded = _assemble(model, base, on_top, held, trust_remote_code)
    loaded.system = metadata.system if metadata is not None else ""
    return loaded


def _assemble(
    model: PreTrainedModel, base: str, on_top: Path | None, kind: ModelKind, trust_remote_code: bool
) -> LoadedModel:
    """Add tokenizer, image processor and adapter to loaded weights."""
    has_tokenizer = on_top is not None and (on_top / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(str(on_top) if has_tokenizer else base, trust_remote_code)
    if kind == "reward_model":
        set_pad_token(model, tokenizer, None)
    processor = None
    if kind == "vision_language":
        processor = _load_processor(model, base, on_top, tokenizer, trust_remote_code)
    if on_top is not None:
        resize_embeddings(model, tokenizer)
    adapted = model if on_top is None else load_adapter(model, on_top)
    problem = None if processor is None else packing_problem(model, processor)
    return LoadedModel(adapted, tokenizer, measured_packing_problem=problem)


def _load_processor(
    model: PreTrainedModel, base: str, adapter: Path | None, tokenizer: Tokenizer, trust_remote_code: bool
) -> VisionProcessor:
    """Load the image processor that an adapter was trained with, else that of its base, and attach it."""
    saved = adapter if adapter is not None and any(adapter.glob("*processor_config.json")) else base
    processor = VisionProcessor(str(saved), model.config, tokenizer, trust_remote_code)
    attach_processor(model, processor)
    return processor


_OTHER: dict[ModelKind, str] = {
    "reward_model": "is a reward model, which scores answers and gives none; `xft score` tries it",
    "causal_lm": "is a language model, which gives answers and no scores; `xft chat` tries it",
    "vision_language": "is a vision-language model, which gives answers and no scores; `xft chat` tries it",
}


def _kind(base: str, adapter: Path | None, trust_remote_code: bool) -> ModelKind:
    """Return the kind of a saved model, read from its config."""
    if adapter is not None and adapter_model_kind(adapter) == "reward_model":
        return "reward_model"
    # An adapter has the same task type for both kinds of models that give answers.
    held = model_kind_of(load_config(base, trust_remote_code))
    return "causal_lm" if adapter is not None and held == "reward_model" else held


def _quantizer(bits: int | None, double_quant: bool) -> Quantization | None:
    if bits is None:
        return None
    return NF4(double_quant) if bits == 4 else Int8()


def _is_local(path: str) -> bool:
    """Return whether ``path`` denotes a folder, not the name of a model."""
    if path.startswith(SCHEME):
        return False
    return Path(path).exists() or path.count("/") != 1 or Path(path).parent.is_dir()


def adapter_base_path(folder: Path) -> str:
    """Return the base model of an adapter, from xft's metadata or peft's config."""
    metadata = read_metadata(folder)
    if metadata is not None:
        return metadata.base
    base = adapter_base(folder)
    return bundled_model.NAME if bundled_model.is_unpacked(base) else base
