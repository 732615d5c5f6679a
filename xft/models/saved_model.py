"""Saved models: write one into a folder, find one, open one.

A saved model is a folder with weights (an adapter, or a whole model), the tokenizer, the chat
template and the generation config, as plain ``peft`` and ``transformers`` read them; and
``xft_metadata.json``, which says what base an adapter belongs on and in which type it was trained, so
that nothing has to be typed again.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from xft.errors import CheckpointError, ModelError
from xft.models import bundled_model
from xft.models.adapters.lora import adapter_base, adapter_model_kind, is_adapter, load_adapter
from xft.models.generation import stop_ids
from xft.models.loading import (
    LoadedModel,
    choose_dtype,
    load_config,
    load_tokenizer,
    load_weights,
    resize_embeddings,
)
from xft.models.quantization import NF4, Int8, Quantization
from xft.models.reward_head import ModelKind, is_reward_model, model_kind_of, set_pad_token
from xft.templates import BoundTemplate
from xft.types import Tokenizer
from xft.utils.paths import SCHEME
from xft.version import __version__

METADATA_FILE = "xft_metadata.json"


@dataclass(frozen=True)
class ModelMetadata:
    """What ``xft_metadata.json`` says.

    Attributes:
        base: the model that an adapter belongs on, as the config named it.
        dtype: the type of the weights in training.
        bits: 4 or 8 where the base was quantised, else ``None``.
        double_quant: of :class:`NF4`.
        attn_implementation: as in the config.
        version: of xft.
    """

    base: str
    dtype: str
    bits: int | None = None
    double_quant: bool = True
    attn_implementation: str = "auto"
    version: str = __version__

    def __post_init__(self) -> None:
        if not (
            isinstance(self.base, str)
            and isinstance(self.attn_implementation, str)
            and self.bits in (None, 4, 8)
            and self.dtype in ("bfloat16", "float16", "float32")
        ):
            raise ValueError(f"got {self!r}")


def save_model(
    model: PreTrainedModel | PeftModel,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    note: ModelMetadata,
    folder: Path,
    **options: Any,
) -> None:
    """Write a model into an existing folder.

    Args:
        model: with an adapter, the adapter alone is written.
        tokenizer: the model's.
        template: the chat template that it was trained with; ``None`` keeps the tokenizer's.
        note: what ``xft_metadata.json`` will say.
        folder: where.
        options: for ``save_pretrained`` of the model, e.g. ``max_shard_size``.
    """
    if isinstance(model, PeftModel):
        # The rows of new tokens are saved with the adapter; without this, peft would save the whole
        # embeddings beside them, once for each layer that shares them.
        options["save_embedding_layers"] = False
    # Training switches the cache off; whoever loads the folder wants to generate with it.
    config: Any = model.config
    cached, config.use_cache = config.use_cache, True
    try:
        model.save_pretrained(folder, **options)
    finally:
        config.use_cache = cached
    saved: Any = tokenizer
    before = tokenizer.chat_template
    try:
        if template is not None:
            saved.chat_template = template.source
        saved.save_pretrained(folder)
    finally:
        saved.chat_template = before
    if template is not None and not is_reward_model(model):
        _generation_config(model, tokenizer, template).save_pretrained(folder)
    (folder / METADATA_FILE).write_text(json.dumps(asdict(note), indent=2) + "\n", encoding="utf-8")


def find_saved_model(path: Path) -> Path:
    """The folder with the weights: ``path`` itself, or what a run folder holds.

    A run folder gives its ``final`` folder, or, where the run did not end, its last checkpoint.

    Raises:
        ModelError: there is nothing to open.
    """
    for candidate in (path, path / "final", path / "checkpoints" / "last"):
        if is_adapter(candidate) or (candidate / "config.json").is_file():
            return candidate.resolve()
    if (path / "config.py").is_file():
        raise ModelError(f"{path}: the run has saved nothing yet")
    what = "is not a run folder, an adapter or a model" if path.is_dir() else "does not exist"
    raise ModelError(f"{path}: {what}; expected a folder that xft, peft or transformers wrote")


def read_metadata(folder: Path) -> ModelMetadata | None:
    """What ``xft_metadata.json`` says, or ``None`` where something else wrote the folder.

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
    """Open a run folder, a checkpoint, an adapter, a model folder, or a model by name.

    Args:
        path: what to open.
        adapter: an adapter to put on top, where ``path`` is a model.
        bits: hold the base in 4 or 8 bits; by default as it was in training.
        dtype: of the weights; by default as it was in training.
        device: where the weights go; the CPU by default.
        trust_remote_code: run Python code that lies beside the weights. A folder cannot ask for it.
        kind: the only kind that will do; by default any.

    Raises:
        ModelError: nothing is there, it is of another kind, or the adapter belongs to another model.
    """
    device = device or torch.device("cpu")
    folder = find_saved_model(Path(path)) if _is_local(path) else None
    on_top = find_saved_model(Path(adapter)) if adapter is not None else None
    if folder is not None and is_adapter(folder):
        if on_top is not None:
            raise ModelError(f"{path}: is an adapter itself; give --adapter with the model's path")
        base = _base(folder)
        folder, on_top = None, folder
    else:
        base = path if folder is None else str(folder)
    if on_top is not None and not is_adapter(on_top):
        raise ModelError(f"{adapter}: is a whole model, expected an adapter")
    written = on_top or folder
    note = read_metadata(written) if written is not None else None
    held = _kind(base, on_top, trust_remote_code)
    if kind not in (None, held):
        raise ModelError(f"{path}: {_OTHER[held]}")
    bits = bits or (note.bits if note is not None else None)
    model = load_weights(
        base,
        choose_dtype(dtype or (note.dtype if note is not None else "auto"), device),
        attn_implementation=note.attn_implementation if note is not None else "auto",
        quantization=_quantizer(bits, note.double_quant if note is not None else True),
        device=device,
        trust_remote_code=trust_remote_code,
        kind=held,
    )
    own = on_top is not None and (on_top / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(str(on_top) if own else base, trust_remote_code)
    if held == "reward_model":
        set_pad_token(model, tokenizer, None)
    if on_top is None:
        return LoadedModel(model, tokenizer)
    resize_embeddings(model, tokenizer)
    return LoadedModel(load_adapter(model, on_top), tokenizer)


_OTHER: dict[ModelKind, str] = {
    "reward_model": "is a reward model, which scores answers and gives none; `xft score` tries it",
    "causal_lm": "is a language model, which gives answers and no scores; `xft chat` tries it",
}


def _kind(base: str, adapter: Path | None, trust_remote_code: bool) -> ModelKind:
    """What a saved model is; read from configs alone."""
    if adapter is not None:
        return adapter_model_kind(adapter)
    return model_kind_of(load_config(base, trust_remote_code))


def _quantizer(bits: int | None, double_quant: bool) -> Quantization | None:
    if bits is None:
        return None
    return NF4(double_quant) if bits == 4 else Int8()


def _is_local(path: str) -> bool:
    """Whether ``path`` is meant as a folder, and not as the name of a model."""
    if path.startswith(SCHEME):
        return False
    return Path(path).exists() or path.count("/") != 1 or Path(path).parent.is_dir()


def _base(folder: Path) -> str:
    """The model that an adapter belongs on, as our note says or as peft's config says."""
    note = read_metadata(folder)
    if note is not None:
        return note.base
    base = adapter_base(folder)
    return bundled_model.NAME if bundled_model.is_unpacked(base) else base


def _generation_config(
    model: PreTrainedModel | PeftModel, tokenizer: Tokenizer, template: BoundTemplate
) -> GenerationConfig:
    """The model's own, with the ids at which an answer ends."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    config = GenerationConfig.from_dict(inner.generation_config.to_dict())
    config.eos_token_id = stop_ids(tokenizer, template)
    config.pad_token_id = tokenizer.pad_token_id
    return config
