"""Rows of TRL: where they are, their length, and which tokens are targets."""

from typing import Any

from xft.migration.arguments import Arguments
from xft.migration.common import VALIDATION
from xft.migration.values import count, label, split_size, switch, text

FORMATS = {
    "instruction": "auto",
    "preference": "preference",
    "unpaired_preference": "kto",
    "prompt": "prompt",
}
_LENGTH = 1024
_PLACEHOLDER = "my_rows.jsonl"
_OVERLONG = "longer conversations lose whole exchanges, the oldest first, and keep their end; at most a tenth may be longer"
_TARGETS = "only answers are targets; TRL trains on all tokens of a conversation"


def import_data(values: Arguments, method: str, kind: str) -> None:
    """Take over the rows.

    Args:
        values: arguments.
        method: key of ``METHODS``.
        kind: ``data.type``.

    Raises:
        ConfigError: a value has another type.
    """
    column = values.read(text, "dataset_text_field")
    if column is not None and column != "text" and method == "sft":
        kind = "text"
        values.draft.take(
            "dataset_text_field", "objective.type", "pretrain", f"raw text in the column {column!r}"
        )
    elif column is not None:
        how = (
            "data.format = 'auto', by the columns; data.type='text' objective='pretrain' trains on raw text"
        )
        values.draft.change("dataset_text_field", how)
    format = {"type": "text", "text": column} if kind == "text" else FORMATS[kind]
    data: dict[str, Any] = {"type": kind, **_source(values), "format": format}
    _length(values, data, method)
    _packing(values, data, kind)
    _targets(values, method, kind)
    _validation(values, data)
    values.draft.values["data"] = data


def _source(values: Arguments) -> dict[str, Any]:
    """Return path and split."""
    draft, keys = values.draft, ("dataset_name", "train_file")
    key, path = values.find(*keys), values.read(text, *keys)
    subset_keys = ("dataset_config", "dataset_config_name")
    subset_key, subset = values.find(*subset_keys), values.read(label, *subset_keys)
    split, streams = (
        values.read(label, "dataset_train_split"),
        values.is_on("dataset_streaming", "streaming"),
    )
    parts = values.sections("datasets")
    if path is None and len(parts) == 1:
        part = parts[0]
        key, path = part.full_name("path"), part.read(text, "path")
        subset_key, subset = part.full_name("name"), part.read(label, "name")
        split = split or part.read(label, "split")
        if part.full_name("split") in draft.keys:
            draft.note(part.full_name("split"), f"data.split = {split!r}")
    elif parts:
        for part in parts:
            part.miss("write data=dict(type='mixture', datasets=...) (docs/configs.md)", *part.unread)
    if path is None:
        draft.change(key, f"data.path = {_PLACEHOLDER!r}: set it")
    else:
        path = f"{path}:{subset}" if subset else path
        draft.note(key, f"data.path = {path!r}")
    if subset is not None:
        draft.note(subset_key, f"data.path = {path!r}")
    section: dict[str, Any] = {"path": path or _PLACEHOLDER}
    if split is not None and "dataset_train_split" in draft.keys:
        draft.note("dataset_train_split", f"data.split = {split!r}")
    if split not in (None, "train"):
        section["split"] = split
    if streams:
        draft.note(
            "dataset_streaming" if "dataset_streaming" in draft.keys else "streaming",
            "data.streaming = True",
        )
        section["streaming"] = True
    return section


def _length(values: Arguments, data: dict[str, Any], method: str) -> None:
    draft, keys = values.draft, ("max_length", "max_seq_length")
    key, length = values.find(*keys), values.read(count, *keys)
    prompt_key, prompt = values.full_name("max_prompt_length"), values.read(count, "max_prompt_length")
    mode = values.read(text, "truncation_mode")
    if method == "grpo":
        if prompt is not None:
            draft.note(prompt_key, f"data.max_length = {prompt}")
            data["max_length"] = prompt
        if mode is not None:
            draft.note("truncation_mode", "prompts are never truncated")
        if length is not None:
            draft.change(key, "data.max_length limits the prompt alone")
        return
    data["max_length"] = length or _LENGTH
    draft.note(key, f"data.max_length = {length or _LENGTH}" + ("" if length else f" ({draft.by_default})"))
    values.change(
        "data.max_length limits prompt and answer together", "max_completion_length", "max_target_length"
    )
    if prompt is not None:
        draft.change(prompt_key, "data.max_length limits prompt and answer together")
    if data["type"] == "text":
        draft.change(
            "truncation_mode" if mode else key, "documents are cut into chunks without loss, not truncated"
        )
        return
    data["on_overlong"] = "truncate"
    draft.change("truncation_mode" if mode else key, f"data.on_overlong = 'truncate': {_OVERLONG}")


def _packing(values: Arguments, data: dict[str, Any], kind: str) -> None:
    draft, packing = values.draft, values.read(switch, "packing")
    free, strategy = values.read(switch, "padding_free"), values.read(text, "packing_strategy")
    if kind == "prompt":
        if packing is not None:
            draft.note("packing", "prompts are answered, not packed")
    elif packing:
        draft.note("packing", "data.packing = 'auto': packed samples never see each other, and none is cut")
    else:
        by_default = "" if packing is False else f" ({draft.by_default})"
        draft.note("packing", f"data.packing = False{by_default}: a row of a batch is one sample")
        data["packing"] = False
    if free is not None:
        draft.note("padding_free", "batches have no padding where the model keeps samples apart")
    if strategy is not None:
        change = draft.note if strategy in ("bfd", "ffd") else draft.change
        change("packing_strategy", "best fit, of whole samples")
    values.note("as data.packing", "eval_packing")


def _targets(values: Arguments, method: str, kind: str) -> None:
    """Record which tokens are in the loss."""
    draft = values.draft
    if method != "sft":
        values.note(f"of sft, and this is {method}", "assistant_only_loss", "completion_only_loss")
        return
    assistant = values.read(switch, "assistant_only_loss")
    completion = values.read(switch, "completion_only_loss")
    if kind == "text":
        for key, value in (("assistant_only_loss", assistant), ("completion_only_loss", completion)):
            if value is not None:
                (draft.change if value else draft.note)(key, "every token of raw text is a target")
        return
    if assistant or completion:
        for key, value in (("assistant_only_loss", assistant), ("completion_only_loss", completion)):
            if value is not None:
                draft.note(key, "answers are targets")
        return
    draft.change("assistant_only_loss", _TARGETS)
    if completion is not None:
        draft.change("completion_only_loss", _TARGETS)


def _validation(values: Arguments, data: dict[str, Any]) -> None:
    draft, split = values.draft, values.read(label, "dataset_test_split")
    strategy = values.peek("eval_strategy") or values.peek("evaluation_strategy")
    if "test_split_size" in values:
        data["val_split"] = values.read(split_size, "test_split_size")
        draft.note("test_split_size", f"data.val_split = {data['val_split']}")
    elif strategy in (None, "no", False):
        data["val_split"] = None
        draft.note("eval_strategy", f"data.val_split = None ({draft.by_default}): {VALIDATION}")
    else:
        how = "validation rows are a part of the training rows (data.val_split='auto'), not a split of the dataset"
        draft.change("dataset_test_split", how)
        split = None
    if split is not None:
        draft.note("dataset_test_split", "not used without an eval_strategy")
