"""Datasets, lengths, packing and templates of XTuner."""

from collections.abc import Iterator, Mapping
from typing import Any

from xft.migration.arguments import COMPUTED, Arguments
from xft.migration.python_values import Name
from xft.migration.values import count, label, switch
from xft.migration.xtuner_images import read_images
from xft.registry import list_registered

_FORMATS = {"crime_kg_assitant": "crime_kg_assistant", "msagent_react": "msagent", "default": "xtuner"}
_PLACEHOLDER = "my_rows.jsonl"
_XTUNER_TEMPLATES = ("llama2_chat", "mistral", "mixtral", "gemma", "zephyr", "minicpm", "deepseek_v2")
"""Templates whose texts in XTuner differ from those of the models."""
_PATHS = (
    "data_files",
    "data_file",
    "path",
    "dataset_name_or_path",
    "folder",
    "dataset_folder",
    "data_path",
)
_PACKED = "data.packing = 'auto': samples are not cut, and none sees another"
_NOT_PACKED = "data.packing = False: a row of a batch is one sample"
_OVERLONG = "data.on_overlong = 'truncate': longer conversations lose whole exchanges, and keep their end"


def component(value: object) -> str:
    """Return the name of an object without its class method: ``AutoModel.from_pretrained`` is ``AutoModel``."""
    if not isinstance(value, Name):
        return str(value or "")
    return value.path.removesuffix(".from_pretrained").rpartition(".")[2]


def import_data(values: Arguments, method: str, names: Mapping[str, object]) -> None:
    """Take over the datasets of the training and their template.

    Args:
        values: the config.
        method: ``sft``, ``dpo``, ``orpo`` or ``reward``.
        names: all names of the file, also those that only help to write it.

    Raises:
        ConfigError: rows are tokenized already, or of different kinds, or a value has another type.
    """
    draft, loader = values.draft, values.section("train_dataloader")
    kind = "instruction" if method == "sft" else "preference"
    if loader.take("training.micro_batch_size", count, "batch_size") is None:
        draft.default(loader.full_name("batch_size"), "training.micro_batch_size", 1)
    is_named = isinstance(loader.peek("dataset"), Name)
    parts = [] if is_named else list(_datasets(loader.section("dataset")))
    if is_named:
        draft.miss(loader.full_name("dataset"), COMPUTED)
        loader.pop("dataset")
    sections = [_section(part, kind) for part in parts] or [_unknown(values, kind)]
    if len({section["type"] for section in sections}) > 1:
        draft.refuse("train_dataset", "raw text and conversations", "rows of one kind in a run")
    if len(sections) == 1:
        draft.values["data"] = sections[0]
    else:
        keys = [_name(section, index) for index, section in enumerate(sections, 1)]
        draft.values["data"] = {"type": "mixture", "datasets": dict(zip(keys, sections, strict=True))}
    if sections[0]["type"] == "text":
        draft.set("objective.type", "pretrain")
    _validation(values, sections)
    _template(values, sections[0]["type"], names.get("prompt_template"))


def _unknown(values: Arguments, kind: str) -> dict[str, Any]:
    values.draft.change(
        "train_dataloader",
        f"rows are not known without running the config: data.path = {_PLACEHOLDER!r}; set it",
    )
    return {"type": kind, "path": _PLACEHOLDER, "format": "auto"}


def _datasets(dataset: Arguments) -> Iterator[Arguments]:
    """Yield the single datasets of a concatenation."""
    if isinstance(dataset.peek("datasets"), list):
        for part in dataset.sections("datasets"):
            yield from _datasets(part)
        dataset.note("of the concatenation", "datasets_kwargs")
    elif dataset.unread:
        yield dataset


def _section(part: Arguments, kind: str) -> dict[str, Any]:
    """Return the section of a dataset."""
    draft = part.draft
    builder = component(part.peek("type"))
    if "tokenized" in builder and "untokenized" not in builder:
        draft.refuse("train_dataset", builder, "rows of text; tokenized rows are not read")
    path, split = _path(part)
    map_fn = part.peek("dataset_map_fn")
    name = component(map_fn).removesuffix("_map_fn") if isinstance(map_fn, Name) else ""
    default = {"instruction": "moss" if "MOSS" in builder else "xtuner", "preference": "preference"}[kind]
    format = _FORMATS.get(name, name) or default
    known = list_registered("format")
    if format == "pretrain" or (format not in known and "intern" in builder):
        kind, format = "text", "text"
    if format not in known:
        how = f"{name or builder}: no such format; data.format = 'auto', by the columns of the first rows"
        draft.change(part.find("dataset_map_fn", "type"), how)
        format = "auto"
    else:
        draft.note(part.find("dataset_map_fn", "type"), f"data.format = {format!r}")
    part.pop("dataset_map_fn")
    key, limit = part.full_name("max_dataset_length"), part.read(count, "max_dataset_length")
    if limit is not None and isinstance(path, str):
        draft.note(key, f"data.path: #{limit} selects rows")
        path = f"{path}#{limit}"
    elif limit is not None:
        draft.miss(key, "all rows of the files are read")
    section: dict[str, Any] = {"type": kind, "path": path, "format": format}
    section |= {} if split == "train" else {"split": split}
    images, image_tokens = read_images(part) if builder == "LLaVADataset" else ({}, 0)
    section |= images | _length(part, kind, image_tokens)
    part.note("data is prepared before the run", "do_dataset_tokenization")
    part.note("the score is that of the last token of the template", "reward_token_id")
    part.note("prompt and answer are tokenized as one text", "with_image_token", "input_ids_with_output")
    return section


def _length(part: Arguments, kind: str, image_tokens: int) -> dict[str, Any]:
    """Return length, packing, and what happens to longer rows."""
    draft, key = part.draft, part.full_name("max_length")
    length = part.read(count, "max_length")
    why = "" if length else f" ({draft.by_default})"
    if image_tokens and length:
        length += image_tokens
        why = f" (with the {image_tokens} tokens of an image)"
    draft.note(key, f"data.max_length = {length or 2048}{why}")
    found_keys = ("pack_to_max_length", "use_varlen_attn", "max_packed_length")
    flags = {name: part.read(switch if name != "max_packed_length" else count, name) for name in found_keys}
    packs = flags["pack_to_max_length"] or (kind == "preference" and flags["use_varlen_attn"])
    present = tuple(part.full_name(name) for name, value in flags.items() if value is not None)
    record = draft.change if packs else draft.note
    record(present or part.full_name("pack_to_max_length"), _PACKED if packs else _NOT_PACKED)
    section: dict[str, Any] = {"max_length": length or 2048}
    section |= {} if packs else {"packing": False}
    if kind != "text":
        draft.change(key, _OVERLONG)
        section["on_overlong"] = "truncate"
    return section


def _path(part: Arguments) -> tuple[Any, str]:
    """Return ``data.path`` and ``data.split`` of a dataset."""
    draft = part.draft
    options = part.section("dataset") if isinstance(part.peek("dataset"), dict) else part
    present = [name for name in _PATHS if name in options]
    files = options.peek(present[0]) if present else None
    if isinstance(files, dict):
        files = next(iter(files.values()), None)
    path = files[0] if isinstance(files, list) and len(files) == 1 else files
    listed = path if isinstance(path, list) else [path]
    keys = tuple(options.full_name(name) for name in present) or (part.full_name("dataset"),)
    options.pop(*present) if present else part.pop("dataset")
    subset, split = options.read(label, "name"), options.read(label, "split") or part.read(label, "split")
    if not path or not all(isinstance(name, str) for name in listed):
        draft.change(keys, f"not known without running the config: data.path = {_PLACEHOLDER!r}; set it")
        return _PLACEHOLDER, "train"
    is_hub = isinstance(path, str) and "/" in path and present[0] not in ("data_files", "data_file")
    if isinstance(path, str) and subset is not None:
        path = f"{path}:{subset}"
    draft.note(keys, f"data.path = {path!r}")
    for section in (options, part):
        for name, what in (("name", "path"), ("split", "split")):
            full = section.full_name(name)
            if full in draft.keys and not any(full in entry.keys for entry in draft.entries):
                draft.note(full, f"data.{what}" if is_hub or what == "path" else "files have no splits")
    return path, split if split is not None and is_hub else "train"


def _name(section: Mapping[str, Any], index: int) -> str:
    path = section["path"]
    stem = str(path if isinstance(path, str) else path[0]).rstrip("/").rpartition("/")[2].partition(".")[0]
    name = "".join(char if char.isascii() and char.isalnum() else "_" for char in stem).strip("_").lower()
    return f"{name or 'rows'}_{index}"


def _validation(values: Arguments, sections: list[dict[str, Any]]) -> None:
    """XTuner validates nothing by default; its validation loops have no counterpart."""
    keys = ("val_dataloader", "test_dataloader", "val_evaluator", "test_evaluator", "val_cfg", "test_cfg")
    present = [key for key in keys if key in values]
    values.miss("validation rows are a part of the training rows (data.val_split)", *present)
    if present:
        return
    for section in sections:
        section["val_split"] = None
    how = "data.val_split = None (the default of XTuner): data.val_split='auto' holds rows out"
    values.draft.note("val_dataloader", how)


def _template(values: Arguments, kind: str, template: object) -> None:
    """Take over the template, under the name that configs of XTuner give it."""
    draft = values.draft
    values.pop("prompt_template")
    if kind == "text":
        if "prompt_template" in draft.keys:
            draft.note("prompt_template", "raw text has no template")
        return
    if not isinstance(template, Name):
        draft.set("template", "auto")
        if template is not None:
            draft.change("prompt_template", "template = 'auto', that of the tokenizer")
        return
    name = template.last
    if name in _XTUNER_TEMPLATES:
        how = f"{name}: the official text of the model; {name}_xtuner is that of XTuner, where `xft list templates` has it"
        draft.change("prompt_template", how, "template", name)
    elif name in list_registered("template"):
        draft.take("prompt_template", "template", name)
    else:
        how = f"{name}: template = 'auto', that of the tokenizer"
        draft.change("prompt_template", how, "template", "auto")
