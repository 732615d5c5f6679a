"""Import a config of another tool."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xft.config import build, check
from xft.config.dump import dump_config, format_docstring
from xft.errors import ConfigError, XftError
from xft.migration.axolotl import import_axolotl
from xft.migration.draft import Draft
from xft.migration.llama_factory import import_llama_factory
from xft.migration.trl import TOOL as TRL
from xft.migration.trl import import_trl
from xft.migration.xtuner import import_xtuner
from xft.run_config.config import RunConfig
from xft.utils import paths
from xft.utils.console import shorten

MAX_LINES = 40
"""Lines of an imported config."""
MAX_BYTES = 1_000_000
EXPECTED = "a config of XTuner (.py), LLaMA-Factory, axolotl, or TRL (.yaml, .yml or .json)"


@dataclass(frozen=True)
class Imported:
    """An imported config.

    Attributes:
        draft: what became of each key.
        config: config of xft, which passes ``xft check``.
        text: the config as a Python file.
    """

    draft: Draft
    config: dict[str, Any]
    text: str


def import_config(path: str | Path, method: str | None = None) -> Imported:
    """Read a config of another tool. Nothing in the file is executed.

    Args:
        path: the file.
        method: ``sft``, ``dpo`` or another method of TRL, whose configs do not name it; ``None`` decides by the keys.

    Raises:
        ConfigError: the file is no config of a known tool, or its method has no counterpart.
    """
    file = Path(path)
    try:
        draft = _read(file, method)
        if method is not None and draft.tool != TRL:
            raise ConfigError(
                key="--method", got=method, expected=f"no --method: configs of {draft.tool} name theirs"
            )
        config = draft.finish()
    except ConfigError as error:
        if str(file) in str(error):
            raise
        raise error.prefixed(file) from error
    try:
        check(config, RunConfig)
        build(config, RunConfig)
    except XftError as error:
        raise _explain(draft, error, file) from error
    lines = _render(config).splitlines()
    head = format_docstring(f"Imported from {shorten(file.name, 80)} of {draft.tool}.")
    return Imported(draft, config, "\n".join([head, "", *lines]) + "\n")


def _explain(draft: Draft, error: XftError, file: Path) -> ConfigError:
    """Return the error of a config of xft under the keys of the other tool that its values come from."""
    mistakes = []
    for cause in error.causes or (error,):
        entries = [entry for entry in draft.entries if entry.path and _is_part(cause.key, entry.path)]
        if entries:
            key = max(entries, key=lambda entry: len(entry.path)).key
            text = str(cause).removeprefix(f"{cause.key}: ")
            mistakes.append(f"{key}: {text} (in xft, {cause.key})")
        else:
            mistakes.append(str(cause))
    first = (error.causes or (error,))[0]
    return ConfigError(f"{file}: {'; '.join(mistakes)}", key=first.key, got=first.got, causes=error.causes)


def _is_part(key: str, path: str) -> bool:
    """Return whether a key is at a dotted path or below it."""
    return key == path or key.startswith(f"{path}.")


def _read(file: Path, method: str | None) -> Draft:
    paths.check_regular(file, "FILE")
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(key="FILE", got=f"{file.stat().st_size} bytes", expected=EXPECTED)
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"FILE: cannot read {file} ({error})", key="FILE", got=str(file)) from error
    if file.suffix == ".py":
        return import_xtuner(text, str(file))
    if file.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError(key="FILE", got=file.name, expected=EXPECTED)
    values = _mapping(file, text)
    if "base_model" in values:
        return import_axolotl(values)
    if {"stage", "finetuning_type", "cutoff_len", "model_class", "template"} & values.keys():
        return import_llama_factory(values, file)
    if {"model_name_or_path", "dataset_name"} & values.keys():
        return import_trl(values, method)
    raise ConfigError(key="FILE", got=sorted(map(str, values))[:5], expected=EXPECTED)


def _mapping(file: Path, text: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{file}: does not parse ({reason})", key="FILE", got=str(file)) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(key="FILE", got=type(values).__name__, expected=EXPECTED)
    return values


def _render(config: dict[str, Any]) -> str:
    """Return the config as Python. Where it takes too many lines, each section takes one."""
    text = dump_config(config)
    if text.count("\n") + 2 <= MAX_LINES:
        return text
    return "".join(f"{key} = {value!r}\n" for key, value in config.items())
