"""Datasets of LLaMA-Factory: their descriptions, lengths, validation rows and templates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from xft.migration.arguments import Arguments
from xft.migration.common import VALIDATION
from xft.migration.values import count, names, number, split_size, switch, text

_TEMPLATES = {
    "llama3": "llama3_chat",
    "llama2": "llama2_chat",
    "qwen": "qwen2_5_chat",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma3": "gemma3",
    "mistral": "mistral",
    "chatml": "chatml",
    "vicuna": "vicuna",
    "zephyr": "zephyr",
    "glm4": "glm4",
    "phi4": "phi4",
    "alpaca": "wizardcoder",
    "intern2": "internlm2_chat",
    "yi": "chatml",
}
_LENGTH = 2048
_OVERLONG = "longer conversations lose whole exchanges, the oldest first, and keep their end; at most a tenth may be longer"
_NOT_PACKED = "a row of a batch is one sample"
_PACKED = "packed samples never see each other, and none is cut"
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}  # fmt: skip
"""Columns of a description in the format ``alpaca``, and their arguments in xft."""
Info = Mapping[str, object]


def import_data(values: Arguments, kind: str, file: Path) -> None:
    """Take over datasets, validation rows, packing and template.

    Args:
        values: arguments.
        kind: ``data.type``.
        file: the config, above which ``dataset_info.json`` is searched.

    Raises:
        ConfigError: a value has another type.
    """
    draft, key = values.draft, values.find("dataset", "train_dataset")
    folder = values.read(text, "dataset_dir") or "data"
    info, given = (
        _read_info(file, f"{folder}/dataset_info.json"),
        values.read(names, "dataset", "train_dataset"),
    )
    if given and len(given) == 1 and given[0].endswith((".yaml", ".yml")):
        info, source = _read_info(file, given[0]), given[0]
        given = list(info) or draft.refuse(key, source, "a file of datasets, which exists")
    if not given:
        draft.refuse(key, given, "the name of a dataset")
    shared = _shared(values, kind)
    limit_key, limit = values.full_name("max_samples"), values.read(count, "max_samples")
    sections = {}
    for name in given:
        section = {"type": kind, **_section(values, name, folder, info), **shared}
        if limit and kind != "text":
            section["path"] = f"{str(section['path']).partition('#')[0]}#{limit}"
        sections["".join(char if char.isalnum() else "_" for char in name)] = section
    if limit and kind == "text":
        draft.miss(limit_key, "all documents are read")
    elif limit:
        draft.note(limit_key, f"data.path: #{limit} after each path selects rows")
    draft.note(key, f"data.path = {', '.join(str(section['path']) for section in sections.values())}")
    _validation(values, list(sections.values()), folder, info)
    draft.values["data"] = (
        next(iter(sections.values())) if len(sections) == 1 else {"type": "mixture", "datasets": sections}
    )
    _mixing(values, list(sections))
    _template(values, kind)


def _shared(values: Arguments, kind: str) -> dict[str, object]:
    """Return the keys that all datasets of the run have: length, packing, system text, streaming."""
    draft, key = values.draft, values.full_name("cutoff_len")
    length = values.read(count, "cutoff_len")
    draft.note(key, f"data.max_length = {length or _LENGTH}" + ("" if length else f" ({draft.by_default})"))
    shared: dict[str, object] = {"max_length": length or _LENGTH}
    if kind != "text":
        draft.change(key, f"data.on_overlong = 'truncate': {_OVERLONG}")
        shared["on_overlong"] = "truncate"
    pack_key, packing = (
        values.find("neat_packing", "packing"),
        values.read(switch, "neat_packing", "packing"),
    )
    if packing or (packing is None and kind == "text"):
        draft.note(pack_key, f"data.packing = 'auto': {_PACKED}")
    elif kind == "text":
        draft.change(
            pack_key, "documents are cut into chunks of data.max_length without loss, not truncated"
        )
    else:
        by_default = "" if packing is False else f" ({draft.by_default})"
        draft.note(pack_key, f"data.packing = False{by_default}: {_NOT_PACKED}")
        shared["packing"] = False
    system = values.read(text, "default_system")
    if system and kind != "text":
        draft.note(values.full_name("default_system"), f"data.system = {system!r}")
        shared["system"] = system
    elif system:
        draft.note(values.full_name("default_system"), "raw text has none")
    if values.is_on("streaming"):
        draft.note(values.full_name("streaming"), "data.streaming = True")
        shared["streaming"] = True
    folder = values.read(text, "media_dir")
    if folder and kind == "instruction":
        draft.note(values.full_name("media_dir"), f"data.image_folder = {folder!r}")
        shared["image_folder"] = folder
    elif folder:
        draft.miss(values.full_name("media_dir"), "images are relative to the file of the rows")
    values.note("rows are shuffled with a permutation of all of them", "buffer_size")
    for name, why in (
        ("train_on_prompt", "only answers are targets"),
        ("disable_shuffling", "rows are always shuffled"),
    ):
        if values.is_on(name):
            draft.change(values.full_name(name), why)
    return shared


def _validation(values: Arguments, sections: list[dict[str, Any]], folder: str, info: Info) -> None:
    """Take over the validation rows: a part of the training rows, or another dataset."""
    draft, key = values.draft, values.full_name("val_size")
    is_set, eval_key = "val_size" in values, values.full_name("eval_dataset")
    split, given = values.read(split_size, "val_size"), values.read(names, "eval_dataset")
    for section in sections:
        section["val_split"] = split
    if given:
        path = str(_section(values, given[0], folder, info)["path"])
        sections[0]["val_split"] = path
        if len(given) == 1:
            draft.note(eval_key, f"data.val_split = {path!r}")
        else:
            draft.change(
                eval_key, f"data.val_split = {path!r}: one dataset validates, {', '.join(given[1:])} do not"
            )
    elif given is not None:
        draft.note(eval_key, "no dataset")
    elif not is_set:
        draft.note(key, f"data.val_split = None ({draft.by_default}): {VALIDATION}")
    else:
        draft.note(key, f"data.val_split = {split}" + ("" if split else f": {VALIDATION}"))


def _mixing(values: Arguments, datasets: list[str]) -> None:
    draft, key = values.draft, values.full_name("interleave_probs")
    strategy_key, strategy = values.full_name("mix_strategy"), values.read(text, "mix_strategy")
    weights = values.read(_weights, "interleave_probs")
    if strategy == "concat":
        draft.note(strategy_key, "every row once per epoch")
    elif strategy is not None:
        draft.change(
            strategy_key, f"{strategy}: data.weights gives shares; no row occurs more than once per epoch"
        )
    if weights is None:
        return
    if len(weights) == len(datasets) > 1 and all(weight > 0 for weight in weights):
        draft.take(key, "data.weights", dict(zip(datasets, weights, strict=True)))
    else:
        draft.miss(key, "needs a positive weight for each of several datasets")


def _weights(value: object) -> list[float]:
    return [number(item) for item in names(value)] if isinstance(value, str) else _numbers(value)


def _numbers(value: object) -> list[float]:
    if not isinstance(value, list):
        raise ValueError("a list of numbers")
    return [number(item) for item in value]


def _read_info(file: Path, name: str) -> dict[str, Any]:
    """Return the description of datasets in a file below a parent folder of the config; empty if there is none."""
    for parent in file.absolute().parents:
        path = parent / name
        if path.is_file():
            try:
                info = yaml.safe_load(path.read_text(encoding="utf-8"))  # reads JSON too
            except (OSError, ValueError, yaml.YAMLError, RecursionError):
                return {}
            return info if isinstance(info, dict) else {}
    return {}


def _section(values: Arguments, name: str, folder: str, info: Info) -> dict[str, object]:
    """Return path, split and format of a dataset by its description."""
    draft, entry = values.draft, info.get(name)
    if not isinstance(entry, dict):
        path = name if "/" in name or "." in name else f"{folder}/{name}.json"
        draft.change(
            f"dataset {name}", f"data.path = {path!r}: not in a dataset_info.json; check path and rows"
        )
        return {"path": path, "format": "auto"}
    hub = entry.get("hf_hub_url") or entry.get("path")
    path = str(hub or f"{folder}/{entry.get('file_name', f'{name}.json')}")
    is_hub = "." not in path.rpartition("/")[2]
    if is_hub and isinstance(entry.get("subset"), str):
        path = f"{path}:{entry['subset']}"
    if isinstance(entry.get("num_samples"), int):
        path = f"{path}#{entry['num_samples']}"
    split = entry.get("split")
    section = {"path": path, "format": _format(values, name, entry)}
    return section | ({"split": split} if isinstance(split, str) and is_hub and split != "train" else {})


def _format(values: Arguments, name: str, entry: Mapping[str, Any]) -> object:
    """Return the format of a dataset by the columns of its description."""
    columns, kind = entry.get("columns"), str(entry.get("formatting", "alpaca"))
    if not isinstance(columns, dict) or entry.get("ranking") or entry.get("tags"):
        if isinstance(columns, dict) and (entry.get("ranking") or entry.get("tags")):
            how = "data.format = 'auto', by the columns of the first rows, and not by columns and tags of its description"
            values.draft.change(f"dataset {name}", how)
        return "auto"
    if kind in ("sharegpt", "openai"):
        argument = "conversations" if kind == "sharegpt" else "messages"
        column = columns.get("messages", "conversations")
        arguments = {
            argument: column,
            **{key: columns[key] for key in ("system", "tools") if key in columns},
        }
    else:
        kind = "alpaca"
        arguments = {_ALPACA[key]: column for key, column in columns.items() if key in _ALPACA}
        if "output" not in arguments:  # raw text, or labeled answers
            return "auto"
    changed = {
        key: column for key, column in arguments.items() if isinstance(column, str) and key != column
    }
    return {"type": kind, **changed} if changed else kind


def _template(values: Arguments, kind: str) -> None:
    """Take over the template and its options."""
    draft, key = values.draft, values.full_name("template")
    name = values.read(text, "template")
    options = {
        "mask_history": values.full_name("mask_history"),
        "thinking": values.full_name("enable_thinking"),
    }
    last_only, thinking = values.is_on("mask_history"), values.read(switch, "enable_thinking")
    if kind == "text":
        if name is not None:
            draft.note(key, "raw text has no template")
        if thinking is not None:
            draft.note(options["thinking"], "raw text has no template")
        if last_only:
            draft.note(options["mask_history"], "raw text has no turns")
        return
    if name in _TEMPLATES and draft.get("model.type") != "vision_language":
        draft.take(key, "template", _TEMPLATES[name])
    elif name in (None, "auto", "default"):
        draft.set("template", "auto")
        if name is not None:
            draft.change(key, "template = 'auto', that of the tokenizer")
    else:
        draft.change(key, f"{name}: template = 'auto', that of the tokenizer", "template", "auto")
    if last_only:
        draft.take(options["mask_history"], "template.mask_history", True)
    if thinking is not None:
        draft.take(options["thinking"], "template.chat_template_kwargs", {"enable_thinking": thinking})
