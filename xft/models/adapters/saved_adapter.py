"""Load saved adapters, and read what they were trained on."""

from contextlib import nullcontext
from pathlib import Path

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from xft.compat.peft import without_name_conversion
from xft.errors import ModelError
from xft.models.adapters.full_modules import upcast_full_modules
from xft.models.adapters.parameter_lora import parameter_layer, restore_layers
from xft.models.expert_weights import plain_experts
from xft.models.quantization import peft_without_bnb_import
from xft.models.reward_head import ModelKind, upcast_head
from xft.models.weight_checks import check_finite

_WEIGHTS = "adapter_model.safetensors"
_LOAD_ERRORS = (RuntimeError, ValueError, KeyError, OSError, TypeError, SafetensorError)


def is_adapter(path: Path) -> bool:
    """Return whether a folder holds an adapter in the format of peft."""
    return (path / "adapter_config.json").is_file()


def adapter_model_kind(path: Path) -> ModelKind:
    """Return the kind of model that an adapter was trained as.

    Raises:
        ModelError: the config of the adapter is corrupt.
    """
    return "reward_model" if str(read_adapter_config(path).task_type) == "SEQ_CLS" else "causal_lm"


def adapter_base(path: Path) -> str:
    """Return the base model that the config of an adapter names.

    Raises:
        ModelError: the config names none, or is corrupt.
    """
    base = read_adapter_config(path).base_model_name_or_path
    if not base:
        raise ModelError(
            f"{path}: the adapter does not name its base model; give --adapter with the path of the model",
            key=f"{path}/adapter_config.json",
        )
    return str(base)


def read_adapter_config(path: Path) -> PeftConfig:
    """Read ``adapter_config.json``.

    Raises:
        ModelError: the file is corrupt.
    """
    try:
        config: PeftConfig = PeftConfig.from_pretrained(str(path))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        file = f"{path}/adapter_config.json"
        raise ModelError(f"{file}: corrupt ({error})", key=file, got=str(error)) from error
    return config


def load_adapter(model: PreTrainedModel, path: Path) -> PeftModel:
    """Attach a saved adapter to its base model.

    Raises:
        ModelError: shapes or layers differ, or weights are missing or not finite.
    """
    _check_safetensors(path)
    upcast_head(model)
    config = read_adapter_config(path)
    is_current = isinstance(config, LoraConfig) and restore_layers(config, model)
    if isinstance(config, LoraConfig) and config.target_parameters:
        config._register_custom_module({nn.Module: parameter_layer})
    keep_names = without_name_conversion() if is_current else nullcontext()
    try:
        with peft_without_bnb_import(), keep_names, plain_experts(model):
            loaded = PeftModel.from_pretrained(model, str(path), is_trainable=False, config=config)
    except _LOAD_ERRORS as error:
        raise _misfit(path, model, error) from error
    _check_weights(loaded, path)
    return loaded


def continue_adapter(model: PeftModel, path: Path) -> None:
    """Load the weights of a saved adapter into a new one, which stays trainable.

    Raises:
        ModelError: shapes or layers differ, or weights are missing or not finite.
    """
    _check_safetensors(path)
    try:
        set_peft_model_state_dict(model, load_file(path / _WEIGHTS))
    except _LOAD_ERRORS as error:
        raise _misfit(path, model.get_base_model(), error) from error
    _check_weights(model, path)


def restore_precision(model: PeftModel, path: Path) -> None:
    """Hold a loaded adapter in the dtype of its file: loading rounds fully trained modules to the dtype of the base."""
    saved, live = load_file(path / _WEIGHTS), get_peft_model_state_dict(model, save_embedding_layers=False)
    rounded = {
        tensor.data_ptr()
        for name, tensor in live.items()
        if name in saved and saved[name].dtype != tensor.dtype
    }
    if rounded:
        upcast_full_modules(model, [param for param in model.parameters() if param.data_ptr() in rounded])
        set_peft_model_state_dict(model, saved)


def _check_safetensors(path: Path) -> None:
    if not (path / _WEIGHTS).is_file():
        # peft would load adapter_model.bin instead, which is a pickle.
        raise ModelError(
            f"{path}: no adapter_model.safetensors; expected an adapter of xft or peft. Weights in adapter_model.bin "
            "are not loaded, because a pickle can run code: save them again with a current peft",
            key=f"{path}/{_WEIGHTS}",
        )


def _misfit(path: Path, model: PreTrainedModel, error: Exception) -> ModelError:
    lines = str(error).strip().splitlines()
    mismatches = [line.strip() for line in lines if "size mismatch" in line]
    detail = next(iter([*mismatches, *lines]), "")
    return ModelError(
        f"{path}: the adapter is corrupt or does not fit the model {model.name_or_path!r} ({detail}); it was "
        f"trained on {adapter_base(path)!r}",
        key=str(path),
        got=detail,
    )


def _check_weights(model: PeftModel, path: Path) -> None:
    _check_complete(model, path)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    check_finite("the adapter", weights.items(), key=str(path))


def _check_complete(model: PeftModel, path: Path) -> None:
    """Check that the file and the adapter have the same weights."""
    with safe_open(path / _WEIGHTS, framework="pt") as file:
        saved = set(file.keys())
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    # A weight that two layers share is saved once.
    loaded = {weight.data_ptr() for name, weight in weights.items() if name in saved}
    missing = [name for name, weight in weights.items() if weight.data_ptr() not in loaded]
    missing += sorted(saved - set(weights))
    # Embeddings with new tokens are wrapped; the frozen weight inside belongs to the base.
    missing = [name for name in missing if ".base_layer." not in name]
    if missing:
        raise ModelError(
            f"{path}: the adapter does not fit the model: {len(missing)} weights such as {missing[0]!r} "
            "are in only one of the two",
            key=str(path),
            got=missing[0],
        )
