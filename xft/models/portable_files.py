"""Rewrite the JSON files of a saved model so that older readers load the same model and tokenizer.

Version 5 of transformers writes fields that version 4, and the engines and converters built on it, reject or ignore:
an unknown tokenizer class, a list of special tokens where a dict is expected, and the parameters of the rotary embedding
under a new name, without which version 4 computes with the default frequencies. Version 5 reads the fields written here
too.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TOKENIZER_CLASS = "PreTrainedTokenizerFast"
"""Class of both versions that loads ``tokenizer.json`` unchanged. Classes of model families build the tokenizer again
from their own rules in version 4."""
_LOCAL_FIELDS = ("backend", "is_local", "local_files_only", "name_or_path")
"""Fields that describe how the tokenizer was loaded."""
_ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")
"""Types of the rotary embedding in version 4."""


def make_portable(folder: Path, stop_ids: list[int] | None = None) -> None:
    """Rewrite ``tokenizer_config.json`` and ``config.json``, if the folder has them.

    Args:
        folder: of the saved model.
        stop_ids: ids of the tokens that end an answer, for readers that take them from ``config.json``; ``None`` keeps
            those of the base.
    """
    is_fast = (folder / "tokenizer.json").is_file()
    _rewrite(folder / "tokenizer_config.json", lambda fields: _tokenizer_fields(fields, is_fast))
    _rewrite(folder / "config.json", lambda fields: _config_fields(fields, stop_ids))


def _rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if file.is_file():
        fields = change(json.loads(file.read_text(encoding="utf-8")))
        file.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _tokenizer_fields(fields: Mapping[str, Any], is_fast: bool) -> dict[str, Any]:
    fields = {name: value for name, value in fields.items() if name not in _LOCAL_FIELDS}
    if isinstance(fields.get("extra_special_tokens"), list):
        fields["additional_special_tokens"] = fields.pop("extra_special_tokens")
    if is_fast and fields.get("tokenizer_class") == "TokenizersBackend":
        fields.pop("auto_map", None)  # Code of the folder that was not used: tokenizer.json is complete.
    if is_fast and "auto_map" not in fields:
        fields["tokenizer_class"] = TOKENIZER_CLASS
    return fields


def _config_fields(fields: Mapping[str, Any], stop_ids: list[int] | None) -> dict[str, Any]:
    """Return the fields of a config, and of the text decoder inside it, with those of version 4 added."""
    fields = dict(fields)
    text = fields.get("text_config")
    if isinstance(text, Mapping):
        fields["text_config"] = _config_fields(text, stop_ids)
    if stop_ids and ("eos_token_id" in fields or not isinstance(text, Mapping)):
        fields["eos_token_id"] = stop_ids[0] if len(stop_ids) == 1 else stop_ids
    return _rope_fields(fields) | fields


def _rope_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of version 4 for ``rope_parameters``."""
    parameters = fields.get("rope_parameters") or {}
    local = parameters.get("sliding_attention")
    full = parameters.get("full_attention", parameters)
    # Version 4 has neither other types nor layers without a rotary embedding, nor the families with them.
    if not full or "rope_theta" not in full or full.get("rope_type", "default") not in _ROPE_TYPES:
        return {}
    theta, kind, fraction = full["rope_theta"], full.get("rope_type"), full.get("partial_rotary_factor")
    added = {"rope_theta": theta}
    if local:
        added["rope_local_base_freq"] = local["rope_theta"]
    if fraction is not None:
        added["partial_rotary_factor"] = fraction
    if kind not in (None, "default"):
        added["rope_scaling"] = {name: value for name, value in full.items() if name != "rope_theta"}
    if fields.get("model_type") == "gpt_neox":
        added |= {"rotary_emb_base": theta, "rotary_pct": fraction}
    return added
