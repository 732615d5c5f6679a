"""Formats of datasets of axolotl: what its ``type`` and the names of columns mean in xft."""

from typing import Any

from xft.migration.arguments import Arguments
from xft.migration.values import label, text

METHODS = {
    "dpo": "preference",
    "ipo": "preference",
    "orpo": "preference",
    "simpo": "preference",
    "kto": "unpaired_preference",
}
"""Value of ``rl``, and kind of rows."""
PLAIN_TEXT = ("completion", "pretrain")
"""Types of raw text."""
_FORMATS = {"alpaca": "alpaca", "chat_template": "openai", "sharegpt": "sharegpt", "orpo": "orpo_dpo_mix_40k"}  # fmt: skip
_ENDINGS = {
    "ultra": "orpo_dpo_mix_40k",
    "argilla": "orpo_dpo_mix_40k",
    "argilla_chat": "orpo_dpo_mix_40k",
    "intel": "intel_orca_dpo",
    "prompt_pairs": "preference",
}
"""Formats of pairs, ``TEMPLATE.NAME``."""
_SPELLINGS = "keys of turns are read in both spellings, role and content, from and value"
_COLUMNS = ("field_", "text_column")
"""Beginnings of keys that name a column."""


def import_format(part: Arguments, kind: str) -> Any:
    """Return ``data.format`` of a dataset.

    Args:
        part: keys of the dataset.
        kind: ``data.type``.

    Raises:
        ConfigError: a value has another type.
    """
    draft, key = part.draft, part.full_name("type")
    if isinstance(part.peek("type"), dict):
        return _user_defined(part.section("type"), kind)
    name = part.read(text, "type") or ""
    if kind == "text":
        format = _with_columns("text", text=_column(part, "text_column", "field"))
    elif kind == "unpaired_preference":
        format = "kto"
    elif kind == "preference":
        format = _pairs(part, name)
    else:
        format = _conversations(part, name.partition(":")[0])
    if format == "auto":
        draft.change(key, f"{name or 'no type'}: data.format = 'auto', by the columns of the first rows")
    else:
        draft.note(key, f"data.format = {format!r}")
    why = f"the format {format!r} has no such column"
    others = [name for name in part.unread if name.startswith(_COLUMNS) and name != "field_thinking"]
    part.miss(why, *others)
    spelled = part.section("message_property_mappings")
    spelled.note(_SPELLINGS, *spelled.unread)
    return format


def _column(part: Arguments, *names: str) -> str | None:
    """Read the name of a column, and record that the format has it."""
    key, name = part.find(*names), part.read(text, *names)
    if name is not None:
        part.draft.note(key, f"the column {name!r} of data.format")
    return name


def _with_columns(format: str, **columns: str | None) -> Any:
    """Return a format with the names of its columns, as far as they are not those by default."""
    named = {argument: column for argument, column in columns.items() if column and column != argument}
    return {"type": format, **named} if named else format


def _pairs(part: Arguments, name: str) -> Any:
    format = _with_columns(
        "preference",
        prompt=_column(part, "field_messages", "field_prompt"),
        chosen=_column(part, "field_chosen"),
        rejected=_column(part, "field_rejected"),
    )
    ending = _ENDINGS.get(name.rpartition(".")[2])
    return ending if ending and format == "preference" else format


def _conversations(part: Arguments, name: str) -> Any:
    mapping = part.section("message_property_mappings")
    role = mapping.read(label, "role") or part.peek("message_field_role") or "role"
    if mapping.full_name("role") in part.draft.keys:
        part.draft.note(mapping.full_name("role"), _SPELLINGS)
    mapping.note(_SPELLINGS, *mapping.unread)
    part.note(_SPELLINGS, "message_field_role", "message_field_content")
    if name not in _FORMATS:
        return "auto"
    if name not in ("chat_template", "sharegpt"):
        return _FORMATS[name]
    is_sharegpt = name == "sharegpt" or role == "from"
    by_default = "conversations" if name == "sharegpt" else "messages"
    turns = _column(part, "field_messages") or by_default
    others = {"system": _column(part, "field_system"), "tools": _column(part, "field_tools")}
    if is_sharegpt:
        return _with_columns("sharegpt", conversations=turns, **others)
    return _with_columns("openai", messages=turns, **others)


def _user_defined(options: Arguments, kind: str) -> Any:
    """Return the format of rows whose columns and texts the config names."""
    if kind == "preference":
        format = _with_columns(
            "preference",
            prompt=_column(options, "field_prompt"),
            chosen=_column(options, "field_chosen"),
            rejected=_column(options, "field_rejected"),
            system=_column(options, "field_system"),
        )
    elif kind == "unpaired_preference":
        format = _with_columns(
            "kto",
            prompt=_column(options, "field_prompt"),
            completion=_column(options, "field_completion"),
            label=_column(options, "field_label"),
            system=_column(options, "field_system"),
        )
    else:
        format = _instructions(options)
    texts = tuple(name for name in options.unread if name.endswith("_format"))
    options.miss("texts around a column: write them into the rows, or into a template", *texts)
    return format


def _instructions(options: Arguments) -> Any:
    question = _column(options, "field_instruction") or "instruction"
    context, answer = _column(options, "field_input"), _column(options, "field_output") or "output"
    system_column, fixed = _column(options, "field_system"), options.read(text, "system_prompt")
    if fixed is not None:
        options.draft.note(options.full_name("system_prompt"), "system_text of data.format")
    system = {
        key: value
        for key, value in (("system", system_column), ("system_text", fixed))
        if value is not None
    }
    key, given = options.full_name("format"), options.read(text, "format")
    if given is None:
        return {
            "type": "alpaca", "instruction": question, "input": context or "input", "output": answer, **system
        }  # fmt: skip
    user = given.replace("{instruction}", f"{{{question}}}").replace("{input}", f"{{{context or 'input'}}}")
    how = "the text of the user's turn, inside the chat template of the run (data.format.user)"
    if "{input}" in given:
        how += "; a row without an input is an error"
    options.draft.change(key, how)
    return {"type": "columns", "user": user, "assistant": answer, **system}
