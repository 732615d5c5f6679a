"""Find what ``model.path`` names: a base model, or an adapter that training continues from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig

from xft.errors import ConfigError, ModelError
from xft.models.adapters.saved_adapter import adapter_model_kind, is_adapter, read_adapter_config
from xft.models.reward_head import ModelKind
from xft.models.saved_model import adapter_base_path, find_saved_model, read_metadata

_UNSUPPORTED = ("rank_pattern", "alpha_pattern", "layer_replication", "lora_bias")
"""Fields of peft that no key of the adapter section sets."""
MERGE_FIRST = "merge it first (`xft convert PATH OUT --merge`), and train a new adapter with model.path=OUT"


@dataclass(frozen=True)
class ModelSource:
    """Weights that a run begins with.

    Attributes:
        base: path or name of a whole model.
        adapter: folder of an adapter of ``base``.
        tokenizer: path or name of the tokenizer.
    """

    base: str
    adapter: Path | None = None
    tokenizer: str = ""


def resolve_model_source(path: str, kind: ModelKind) -> ModelSource:
    """Return the base model, the adapter and the tokenizer that ``model.path`` names.

    Args:
        path: a model folder, a run folder, an adapter, or a name.
        kind: kind of the model to train.

    Raises:
        ModelError: a run saved nothing, or its adapter belongs to another kind of model.
    """
    given = Path(path).expanduser()
    if not given.is_dir() or ((given / "config.json").is_file() and not is_adapter(given)):
        return ModelSource(path, tokenizer=path)
    folder = find_saved_model(given)
    if not is_adapter(folder):
        return ModelSource(str(folder), tokenizer=str(folder))
    held = adapter_model_kind(folder)
    # The task type of an adapter does not tell whether its base sees images.
    if held != ("causal_lm" if kind == "vision_language" else kind):
        raise ModelError(
            key="model.path",
            got=f"{path}, an adapter of a {held}",
            expected=f"an adapter of a {kind}, or a whole model",
            fix=MERGE_FIRST,
        )
    base = adapter_base_path(folder)
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    return ModelSource(base, folder, str(folder) if has_tokenizer else base)


def continued_tokens(folder: Path, new_tokens: list[int]) -> list[int]:
    """Return the tokens whose embeddings an adapter trains.

    Args:
        folder: of the adapter.
        new_tokens: tokens that the config adds.

    Raises:
        ConfigError: the config adds tokens that the adapter does not train.
    """
    saved = _lora_config(folder).trainable_token_indices
    if isinstance(saved, dict) or not set(new_tokens) <= set(saved or []):
        raise ConfigError(
            key="model.additional_special_tokens",
            got=f"tokens that the adapter in {folder} does not train",
            expected="only tokens that it was trained with",
            fix=MERGE_FIRST,
        )
    return list(saved or [])


def check_same_quantization(folder: Path, bits: int | None) -> None:
    """Check that the base has the precision in which the adapter was trained: an adapter also fits its rounding.

    Args:
        folder: of the adapter. One that xft did not write says nothing about its base, and is accepted.
        bits: of the quantized base; ``None`` without quantization.

    Raises:
        ConfigError: the adapter was trained on another precision of the base.
    """
    metadata = read_metadata(folder)
    if metadata is None or metadata.bits == bits:
        return
    names = {None: "None", 4: "dict(type='nf4')", 8: "dict(type='int8')"}
    raise ConfigError(
        key="quantization",
        got=names[bits],
        expected=f"{names[metadata.bits]}, with which the adapter {folder} was trained",
        fix=f"set quantization={names[metadata.bits]}; or {MERGE_FIRST}",
    )


def check_same_rope(folder: Path, rope_parameters: dict[str, Any] | None) -> None:
    """Check that the base has the rotary embedding with which the adapter was trained.

    Args:
        folder: of the adapter. One that xft did not write is accepted.
        rope_parameters: of the config.

    Raises:
        ConfigError: the adapter was trained with others.
    """
    metadata = read_metadata(folder)
    if metadata is not None and metadata.rope_parameters != rope_parameters:
        raise ConfigError(
            key="model.rope_parameters",
            got=rope_parameters,
            expected=f"{metadata.rope_parameters}, with which the adapter {folder} was trained",
            fix=f"set them; or {MERGE_FIRST}",
        )


def check_same_adapter(folder: Path, section: LoraConfig) -> None:
    """Check that the adapter section of the config describes the adapter in a folder.

    Raises:
        ConfigError: a value differs.
    """
    saved = _lora_config(folder)
    keys = ("r", "lora_alpha", "use_rslora", "use_dora")
    wrong = {key: getattr(saved, key) for key in keys if getattr(saved, key) != getattr(section, key)}
    if wrong:
        name = next(iter(wrong))
        settings = " ".join(f"adapter.{key}={value!r}" for key, value in wrong.items())
        raise ConfigError(
            key=f"adapter.{name}",
            got=getattr(section, name),
            expected=f"{wrong[name]!r}, as in the adapter {folder}, which training continues from",
            fix=f"set {settings}; or {MERGE_FIRST}",
        )
    extra = [name for name in _UNSUPPORTED if getattr(saved, name, None)]
    if extra or saved.bias != "none":
        raise ConfigError(
            key="model.path",
            got=f"an adapter with {(extra or ['bias'])[0]}",
            expected="an adapter with one rank and one scaling",
            fix=MERGE_FIRST,
        )


def _lora_config(folder: Path) -> LoraConfig:
    config = read_adapter_config(folder)
    if not isinstance(config, LoraConfig):
        raise ConfigError(
            key="model.path", got=f"an adapter of type {config.peft_type}", expected="LoRA", fix=MERGE_FIRST
        )
    return config
