"""Read preference pairs (chosen and rejected) and labeled answers.

Assistant turns after the prompt are targets; those within the prompt are not.
"""

from collections.abc import Sequence
from dataclasses import replace

from xft.data.formats.getters import (
    field_error,
    get_list,
    get_text,
    missing_field_error,
    parse_bool,
    parse_float,
    type_error,
)
from xft.data.formats.messages import SHAREGPT, add_system, assistant_message, parse_messages
from xft.data.formats.tool_calls import get_tools
from xft.errors import DataError, IdenticalAnswersError
from xft.registry import register
from xft.types import Message, Messages, PreferencePair, Row, UnpairedExample

_SCORES = (
    ("chosen_score", "rejected_score"),
    ("score_chosen", "score_rejected"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
)
"""Columns of the scores of both answers in known datasets."""


@register("format", "preference")
def preference(
    row: Row,
    prompt: str = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
    system: str = "system",
    tools: str = "tools",
    chosen_score: str = "chosen_score",
    rejected_score: str = "rejected_score",
    split_think: bool = True,
) -> PreferencePair:
    """Preference pairs: ``prompt``, ``chosen`` and ``rejected``, each a text or a list of messages.

    These are TRL's forms. Without a prompt, or if ``chosen`` and ``rejected`` start with a user turn, both are whole
    conversations, and their common prefix becomes the prompt. The keys of messages are role and content, or from and
    value. If both answers have scores, rows whose chosen answer scores lower are counted.

    Args:
        row: the row.
        prompt: column of the prompt.
        chosen: column of the preferred answer.
        rejected: column of the other answer.
        system: column of the system text; may be missing.
        tools: column of the tools; may be missing.
        chosen_score: column of the score of the chosen answer; may be missing. Names of known datasets
            (``score_chosen``, ``chosen_rating``, ``chosen-rating``) are read too.
        rejected_score: column of the score of the rejected answer, likewise.
        split_think: split an answer that starts with ``<think>`` into reasoning and content.

    Example:
        ``{"prompt": "Is the sky blue?", "chosen": "Yes.", "rejected": "No."}``
    """
    chosen_turns = _turns(row, chosen, split_think)
    rejected_turns = _turns(row, rejected, split_think)
    if row.get(prompt) is None or chosen_turns[0].role != "assistant":
        prompt_turns, chosen_turns, rejected_turns = _split_prompt(
            chosen_turns, rejected_turns, chosen, rejected
        )
        if row.get(prompt) is not None:
            _check_common_prefix(row, prompt, prompt_turns, split_think)
    else:
        prompt_turns = _turns(row, prompt, split_think, is_answer=False)
    add_system(prompt_turns, get_text(row, system, optional=True), system)
    scores = (chosen_score, rejected_score)
    return _pair(prompt_turns, chosen_turns, rejected_turns, row, tools, (chosen, rejected), scores)


@register("format", "sharegpt_preference")
def sharegpt_preference(
    row: Row,
    conversations: str = "conversations",
    chosen: str = "chosen",
    rejected: str = "rejected",
    system: str = "system",
    tools: str = "tools",
    split_think: bool = True,
) -> PreferencePair:
    """ShareGPT preference pairs: ``conversations``, then a ``chosen`` and a ``rejected`` turn.

    This is LLaMA-Factory's form, with optional ``system`` and ``tools`` as in ``sharegpt``.
    """
    prompt_turns = parse_messages(
        get_list(row, conversations), conversations, SHAREGPT, train_on=False, split=split_think
    )
    add_system(prompt_turns, get_text(row, system, optional=True), system)
    chosen_turns = _turns(row, chosen, split_think)
    rejected_turns = _turns(row, rejected, split_think)
    return _pair(prompt_turns, chosen_turns, rejected_turns, row, tools, (chosen, rejected))


@register("format", "intel_orca_dpo")
def intel_orca_dpo(
    row: Row,
    question: str = "question",
    chosen: str = "chosen",
    rejected: str = "rejected",
    system: str = "system",
) -> PreferencePair:
    """Intel Orca pairs (``Intel/orca_dpo_pairs``): ``system``, ``question``, ``chosen`` and ``rejected`` texts.

    An empty system text adds no message.

    Example:
        ``{"system": "", "question": "Is the sky blue?", "chosen": "Yes.", "rejected": "No."}``
    """
    prompt_turns = [Message("user", get_text(row, question))]
    add_system(prompt_turns, get_text(row, system, optional=True), system)
    chosen_turns, rejected_turns = (
        [assistant_message(get_text(row, chosen))],
        [assistant_message(get_text(row, rejected))],
    )
    return _pair(prompt_turns, chosen_turns, rejected_turns, row, None, (chosen, rejected))


@register("format", "orpo_dpo_mix_40k")
def orpo_dpo_mix_40k(row: Row, chosen: str = "chosen", rejected: str = "rejected") -> PreferencePair:
    """ORPO-DPO mix (``mlabonne/orpo-dpo-mix-40k``): two whole conversations, ``chosen`` and ``rejected``.

    The common prefix becomes the prompt. XTuner takes all but the last turn of ``chosen``, even if ``rejected`` has
    others. The columns ``prompt`` and ``question`` repeat the prompt and are not read.
    """
    chosen_turns, rejected_turns = _turns(row, chosen, True), _turns(row, rejected, True)
    prompt_turns, chosen_turns, rejected_turns = _split_prompt(
        chosen_turns, rejected_turns, chosen, rejected
    )
    return _pair(prompt_turns, chosen_turns, rejected_turns, row, None, (chosen, rejected))


@register("format", "kto")
def kto(
    row: Row,
    prompt: str = "prompt",
    completion: str = "completion",
    label: str = "label",
    conversations: str = "conversations",
    kto_tag: str = "kto_tag",
    system: str = "system",
    tools: str = "tools",
    split_think: bool = True,
) -> UnpairedExample:
    """KTO: ``prompt`` and ``completion`` (texts or messages), or ``conversations``, with a ``label``.

    The label is true for a desirable answer; its column may be ``kto_tag`` instead. A whole conversation (also in the
    column ``messages``) ends with the labeled answer.

    Args:
        row: the row.
        prompt: column of the prompt.
        completion: column of the answer.
        label: column of the label.
        conversations: column of a whole conversation.
        kto_tag: column of the label if ``label`` is missing.
        system: column of the system text; may be missing.
        tools: column of the tools; may be missing.
        split_think: split an answer that starts with ``<think>`` into reasoning and content.

    Example:
        ``{"prompt": "Is the sky blue?", "completion": "Yes.", "label": true}``
    """
    if row.get(conversations) is None and row.get("messages") is not None:
        conversations = "messages"
    if row.get(conversations) is None:
        prompt_turns, answer = (
            _turns(row, prompt, split_think, is_answer=False),
            _turns(row, completion, split_think),
        )
        field = completion
    elif row.get(completion) is not None:
        raise field_error(completion, f"got this column and {conversations}", "one of them")
    else:
        turns = parse_messages(get_list(row, conversations), conversations, SHAREGPT, split=split_think)
        # The last turn is the labeled answer, even if its loss flag is false.
        prompt_turns, answer = (
            _without_targets(turns[:-1]),
            [replace(turns[-1], is_target=turns[-1].role == "assistant")],
        )
        field = conversations
    add_system(prompt_turns, get_text(row, system, optional=True), system)
    _check_roles(prompt_turns, answer, field)
    return UnpairedExample(prompt_turns, answer, _label(row, label, kto_tag), get_tools(row, tools))


def _label(row: Row, label: str, other: str) -> bool:
    labels = [parse_bool(row[field], field) for field in (label, other) if row.get(field) is not None]
    if not labels:
        raise missing_field_error(row, label, expected=f"true or false (here, or in {other})")
    if len(set(labels)) > 1:
        raise field_error(label, f"got {labels[0]}, and {labels[1]} in {other}", "equal values", labels[0])
    return labels[0]


def _turns(row: Row, field: str, split: bool, is_answer: bool = True) -> list[Message]:
    """Read an answer (a text, a turn or a list of turns) or a prompt (a text or a list of turns)."""
    value = row.get(field)
    expected = "a text, a turn or a list of turns" if is_answer else "a text or a list of turns"
    if value is None:
        raise missing_field_error(row, field, expected=expected)
    if isinstance(value, str):
        return [assistant_message(value, split) if is_answer else Message("user", value)]
    turns = [value] if is_answer and isinstance(value, dict) else value
    if not isinstance(turns, list) or not turns:
        raise type_error(field, value, expected)
    return parse_messages(turns, field, SHAREGPT, train_on=is_answer, split=split)


def _split_prompt(
    chosen_turns: list[Message], rejected_turns: list[Message], chosen: str, rejected: str
) -> tuple[list[Message], list[Message], list[Message]]:
    """Split two conversations into their common prefix, the prompt, and the rest of each."""
    count = 0
    for chosen_turn, rejected_turn in zip(chosen_turns, rejected_turns, strict=False):
        if not _equal_content(chosen_turn, rejected_turn):
            break
        count += 1
    if count == 0:
        problem = f"the first turn differs from that of {rejected}"
        raise field_error(chosen, problem, "the same prompt in both, or a separate column with the prompt")
    if count == len(chosen_turns) == len(rejected_turns):
        raise _identical(chosen, rejected)
    return _without_targets(chosen_turns[:count]), chosen_turns[count:], rejected_turns[count:]


def _check_common_prefix(row: Row, field: str, prefix: Messages, split: bool) -> None:
    """Check that the prompt of a row equals the common prefix of its two conversations."""
    value = row[field]
    if isinstance(value, str):
        if any(turn.role == "user" and turn.content.strip() == value.strip() for turn in prefix):
            return
    else:
        prompt = _turns(row, field, split, is_answer=False)
        if len(prompt) == len(prefix) and all(map(_equal_content, prompt, prefix)):
            return
    fix = "prompt='' ignores the column"
    raise field_error(
        field, "differs from the common start of both answers", "the same prompt in both places", value, fix
    )


def _pair(
    prompt: list[Message],
    chosen_turns: list[Message],
    rejected_turns: list[Message],
    row: Row,
    tools: str | None,
    fields: tuple[str, str],
    scores: tuple[str, str] = _SCORES[0],
) -> PreferencePair:
    for field, answer in zip(fields, (chosen_turns, rejected_turns), strict=True):
        _check_roles(prompt, answer, field)
    if len(chosen_turns) == len(rejected_turns) and all(map(_equal_content, chosen_turns, rejected_turns)):
        raise _identical(*fields)
    read_tools = get_tools(row, tools) if tools is not None else ()
    return PreferencePair(prompt, chosen_turns, rejected_turns, read_tools, _scores(row, scores))


def _identical(chosen: str, rejected: str) -> DataError:
    return field_error(
        chosen, f"is the same as {rejected}", "two different answers", kind=IdenticalAnswersError
    )


def _scores(row: Row, named: tuple[str, str]) -> tuple[float, float] | None:
    for chosen, rejected in (named, *_SCORES):
        if row.get(chosen) is not None and row.get(rejected) is not None:
            return parse_float(row[chosen], chosen), parse_float(row[rejected], rejected)
    return None


def _check_roles(prompt: Sequence[Message], answer: Sequence[Message], field: str) -> None:
    last = prompt[-1].role if prompt else "nobody"
    if last not in ("user", "tool"):
        raise field_error(field, f"the previous turn is of {last}", "a turn of the user or a tool", last)
    first = answer[0].role if answer else "nobody"
    if first != "assistant":
        raise field_error(
            field, f"the answer starts with a turn of {first}", "a turn of the assistant", first
        )


def _equal_content(one: Message, other: Message) -> bool:
    return one is other or replace(one, is_target=False) == replace(other, is_target=False)


def _without_targets(messages: Sequence[Message]) -> list[Message]:
    """Return the same turns as context only."""
    return [replace(turn, is_target=False) if turn.is_target else turn for turn in messages]
