"""Datasets and chat templates of axolotl."""

from typing import Any

from xft.data.formats.turn_keys import LOSS_FLAG_KEYS
from xft.errors import ConfigError
from xft.migration.arguments import Arguments
from xft.migration.axolotl_formats import METHODS, PLAIN_TEXT, import_format
from xft.migration.common import VALIDATION
from xft.migration.values import count, label, names, split_size, switch, text

_TEMPLATES = {
    "chatml": "chatml",
    "llama3": "llama3_chat",
    "gemma": "gemma",
    "gemma3": "gemma3",
    "mistral_v1": "mistral",
    "phi_3": "phi3_chat",
    "phi_4": "phi4",
    "qwen_25": "qwen2_5_chat",
    "qwen3": "qwen3",
    "cohere": "cohere_chat",
    "deepseek_v2": "deepseek_v2",
    "deepseek_v3": "deepseek_v3",
    "alpaca": "wizardcoder",
    "exaone": "exaone",
}
_LENGTH = 512
_PACKED = "data.packing = 'auto': packed samples never see each other, and none is cut"
_NOT_PACKED = "data.packing = False: a row of a batch is one sample"


def import_datasets(values: Arguments, method: str) -> None:
    """Take over datasets, their formats, and the chat template.

    Args:
        values: arguments.
        method: key of ``METHODS``, ``reward``, ``pretrain`` or ``sft``.

    Raises:
        ConfigError: there is no dataset, or a value has another type.
    """
    draft = values.draft
    parts = _open(values)
    if not parts:
        draft.refuse("datasets", None, "datasets with a path")
    kind = METHODS.get(
        method, "preference" if method == "reward" else "text" if method == "pretrain" else "instruction"
    )
    if kind == "instruction" and all(str(part.peek("type")).startswith(PLAIN_TEXT) for part in parts):
        kind = "text"
        draft.set("objective.type", "pretrain")
    shared = _shared(values, kind, method)
    first_type = parts[0].peek("type")
    sections: dict[str, dict[str, Any]] = {}
    for index, part in enumerate(parts, 1):
        section = {"type": kind, **_section(part, kind), **shared}
        sections[f"{_stem(section['path'])}_{index}"] = section
    _validation(values, list(sections.values()))
    draft.values["data"] = (
        next(iter(sections.values())) if len(sections) == 1 else {"type": "mixture", "datasets": sections}
    )
    _template(values, kind, str(first_type))


def _open(values: Arguments) -> list[Arguments]:
    """Return the datasets; one that is only a name is a path."""
    key, given = (
        values.find("pretraining_dataset", "datasets"),
        values.pop("pretraining_dataset", "datasets"),
    )
    items = given if isinstance(given, list) else [] if given is None else [given]
    parts = []
    for index, item in enumerate(items):
        full = f"{key}[{index}]" if isinstance(given, list) else key
        if not isinstance(item, (str, dict)) or not all(isinstance(name, str) for name in item):
            raise ConfigError(key=full, got=item, expected="a dataset with a path")
        part = Arguments(values.draft, item if isinstance(item, dict) else {"path": item}, f"{full}.")
        parts.append(part)
        if not isinstance(part.peek("path"), str):
            raise ConfigError(key=f"{full}.path", got=part.peek("path"), expected="the path of a dataset")
    values.draft.keys.pop(key, None)
    return parts


def _shared(values: Arguments, kind: str, method: str) -> dict[str, Any]:
    """Return the keys that all datasets of the run have."""
    draft, length = values.draft, values.read(count, "sequence_len")
    by_default = "" if length else f" ({draft.by_default})"
    draft.note("sequence_len", f"data.max_length = {length or _LENGTH}{by_default}")
    shared: dict[str, Any] = {"max_length": length or _LENGTH}
    _packing(values, method == "pretrain", shared)
    policy = values.read(text, "excess_length_strategy")
    if policy == "truncate" and kind != "text":
        how = "data.on_overlong = 'truncate': longer conversations lose whole exchanges, the oldest first"
        draft.change("excess_length_strategy", how)
        shared["on_overlong"] = "truncate"
    elif policy is not None:
        draft.note(
            "excess_length_strategy", "data.on_overlong = 'drop'" if kind != "text" else "documents are cut"
        )
    if values.is_on("streaming"):
        draft.note("streaming", "data.streaming = True")
        shared["streaming"] = True
    elif method == "pretrain":
        draft.note("pretraining_dataset", f"data.streaming = True ({draft.by_default})")
        shared["streaming"] = True
    if values.is_on("dataset_exact_deduplication"):
        draft.note("dataset_exact_deduplication", "data.on_duplicate = 'drop'")
        shared["on_duplicate"] = "drop"
    system = values.read(text, "default_system_message")
    if system and kind != "text":
        draft.note("default_system_message", f"data.system = {system!r}")
        shared["system"] = system
    elif system:
        draft.note("default_system_message", "raw text has none")
    if values.is_on("train_on_inputs"):
        how = (
            "every token is a target" if kind == "text" else "only answers are targets, never the question"
        )
        (draft.note if kind == "text" else draft.change)("train_on_inputs", how)
    if values.is_on("group_by_length"):
        draft.change(
            "group_by_length", "batches of unpacked rows have similar lengths anyway, packed ones are full"
        )
    shuffle = values.read(switch, "shuffle_merged_datasets")
    if shuffle is not None:
        change = draft.note if shuffle else draft.change
        change("shuffle_merged_datasets", "rows are always shuffled")
    values.miss("rows that are too short are kept", "min_sample_len")
    values.note(
        "data.max_length limits prompt and answer together", "max_prompt_len", "max_packed_sequence_len"
    )
    return shared


def _packing(values: Arguments, by_default: bool, shared: dict[str, Any]) -> None:
    draft, keys = values.draft, ("sample_packing", "pretrain_multipack_attn")
    given = {key: values.read(switch, key) for key in keys}
    packing = next((value for value in given.values() if value is not None), by_default)
    for key, value in given.items():
        if value is not None:
            draft.note(key, _PACKED if packing else _NOT_PACKED)
    if not packing:
        shared["packing"] = False
    if all(value is None for value in given.values()):
        draft.note("sample_packing", f"{_PACKED if packing else _NOT_PACKED} ({draft.by_default})")
    why = "packing needs no settings of its own"
    prefixes = ("sample_packing_", "pretrain_multipack_")
    values.note(why, *(key for key in values.unread if key.startswith(prefixes)))
    values.note(
        why, "eval_sample_packing", "pad_to_sequence_len", "multipack_real_batches", "batch_flattening"
    )


def _validation(values: Arguments, sections: list[dict[str, Any]]) -> None:
    draft, is_set = values.draft, "val_set_size" in values
    split = values.read(split_size, "val_set_size")
    for section in sections:
        section["val_split"] = split
    given = values.pop("test_datasets")
    paths = [item["path"] for item in given if isinstance(item, dict) and isinstance(item.get("path"), str)] if isinstance(given, list) else []  # fmt: skip
    if len(paths) == 1 and "." in paths[0].rpartition("/")[2]:
        draft.change("test_datasets", f"data.val_split = {paths[0]!r}, in the format of the training rows")
        sections[0]["val_split"] = paths[0]
    elif given is not None:
        draft.miss("test_datasets", "set data.val_split to a file of theirs")
    if not is_set and given is None:
        draft.note("val_set_size", f"data.val_split = None ({draft.by_default}): {VALIDATION}")
    elif is_set:
        draft.note("val_set_size", f"data.val_split = {split}" + ("" if split else f": {VALIDATION}"))


def _section(part: Arguments, kind: str) -> dict[str, Any]:
    """Return path, split and format of a dataset."""
    draft, path = part.draft, part.read(text, "path") or ""
    files, subset = part.read(_files, "data_files"), part.read(label, "name")
    where: str | list[str] = path
    if files:
        where = files[0] if len(files) == 1 else files
        part.draft.note(part.full_name("data_files"), f"data.path = {where!r}")
    elif subset:
        where = f"{path}:{subset}"
    if subset:
        how = f"data.path = {where!r}" if not files else "files have no subsets"
        draft.note(part.full_name("name"), how)
    draft.note(part.full_name("path"), f"data.path = {where!r}")
    section: dict[str, Any] = {"path": where, "format": import_format(part, kind)}
    split_key, split = part.full_name("split"), part.read(label, "split")
    is_file = isinstance(where, list) or "." in where.rpartition("/")[2][-6:]
    if split is not None and is_file:
        draft.note(split_key, "files have no splits")
    elif split is not None:
        draft.note(split_key, f"data.split = {split!r}")
        section |= {"split": split} if split != "train" else {}
    if part.is_on("trust_remote_code"):
        draft.change(part.full_name("trust_remote_code"), "code of a dataset never runs")
    template_key, template = part.full_name("chat_template"), part.read(text, "chat_template")
    if template in _TEMPLATES:
        draft.note(template_key, f"template = {_TEMPLATES[template]!r} of the dataset")
        section["template"] = _TEMPLATES[template]
    elif template is not None:
        draft.change(template_key, "the template of the run")
    _rest(part)
    return section


def _rest(part: Arguments) -> None:
    """Record the keys of a dataset that choose rows or targets in another way."""
    roles = part.read(names, "roles_to_train")
    if roles is not None:
        is_same = roles == ["assistant"] or set(roles) <= {"assistant", "gpt"}
        record = part.draft.note if is_same else part.draft.change
        record(part.full_name("roles_to_train"), "answers of the assistant are targets, and no others")
    eos_key, eos = part.full_name("train_on_eos"), part.read(label, "train_on_eos")
    if eos is not None:
        how = "the end of every answer is a target, and no other end"
        (part.draft.note if eos == "turn" else part.draft.change)(eos_key, how)
    part.miss("all rows are read; '#500' after data.path selects rows", "shards", "shards_idx", "skip")
    part.note("the ending of a file says how it is read", "ds_type")
    part.note("data is prepared before the run", "preprocess_shards")
    part.note("roles of common names are known", "roles")
    flag_key, flag = part.full_name("message_field_training"), part.read(label, "message_field_training")
    if flag in LOSS_FLAG_KEYS:
        part.draft.note(flag_key, f"a turn with {flag!r}: false is no target")
    elif flag is not None:
        part.draft.miss(flag_key, f"turns have one of {', '.join(LOSS_FLAG_KEYS)}")
    part.note(
        "think sections of answers are split off",
        "split_thinking",
        "field_thinking",
        "template_thinking_key",
    )


def _files(value: object) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    return names(listed)


def _template(values: Arguments, kind: str, dataset: str) -> None:
    draft, source = values.draft, values.read(text, "chat_template_jinja")
    name = values.read(text, "chat_template") or ""
    if kind == "text":
        for key in ("chat_template", "chat_template_jinja"):
            if key in draft.keys:
                draft.note(key, "raw text has no template")
    elif source:
        draft.take("chat_template_jinja", "template", {"type": "jinja", "source": source})
        if name:
            draft.note("chat_template", "chat_template_jinja has priority")
    elif name in _TEMPLATES:
        draft.take("chat_template", "template", _TEMPLATES[name])
    elif name == "tokenizer_default":
        draft.take("chat_template", "template", "auto")
    elif name:
        draft.change("chat_template", f"{name}: template='auto', that of the tokenizer")
    elif dataset.startswith("alpaca") and draft.get("model.type") == "causal_lm":
        how = "the text of Alpaca (template='wizardcoder'), without the sentence on inputs; 'auto' is that of the tokenizer"
        draft.change("datasets[0].type", how, "template", "wizardcoder")


def _stem(path: object) -> str:
    first = path[0] if isinstance(path, list) else str(path)
    stem = first.rstrip("/").rpartition("/")[2].partition(".")[0]
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in stem).lower() or "rows"
