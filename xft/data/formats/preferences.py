"""Formats that compare or judge answers: pairs of chosen and rejected, and single labels.

The turns of the assistant behind the prompt are trained, those within the prompt are not.
"""

from collections.abc import Sequence
from dataclasses import replace

from xft.data.formats.getters import (
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
"""How known data sets spell the columns of the scores of both answers."""


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

    These are TRL's forms. Without a prompt, or where ``chosen`` and ``rejected`` begin with the
    user's turn, both are whole conversations, and what they have in common becomes the prompt.
    Messages may be spelled role and content or from and value. Where each answer has a score, rows
    whose chosen answer has the lower one are counted.

    Args:
        row: the row.
        prompt: the column of the prompt.
        chosen: the column of the better answer.
        rejected: the column of the worse one.
        system: the column of the system text; may be missing.
        tools: the column of the functions' descriptions; may be missing.
        chosen_score: the column of a score of the better answer; may be missing. Spellings of known
            data sets (``score_chosen``, ``chosen_rating``, ``chosen-rating``) are found too.
        rejected_score: the same of the worse one.
        split_think: whether an answer that begins with ``<think>`` becomes reasoning and content.

    Example:
        ``{"prompt": "Is the sky blue?", "chosen": "Yes.", "rejected": "No."}``
    """
    better = _answers(row, chosen, split_think)
    worse = _answers(row, rejected, split_think)
    if row.get(prompt) is None or better[0].role != "assistant":
        before, better, worse = _part(better, worse, chosen, rejected)
        if row.get(prompt) is not None:
            _check_prompt(row, prompt, before, split_think)
    else:
        before = _prompt(row, prompt, split_think)
    add_system(before, get_text(row, system, optional=True), system)
    scores = (chosen_score, rejected_score)
    return _pair(before, better, worse, row, tools, (chosen, rejected), scores)


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
    """ShareGPT preference pairs: ``conversations``, and a ``chosen`` and a ``rejected`` turn to end them.

    This is LLaMA-Factory's form. ``system`` and ``tools`` may stand beside, as in ``sharegpt``.

    Example:
        ``{"conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Hello"}, "rejected": {"from": "gpt", "value": "What?"}}``
    """
    before = parse_messages(
        get_list(row, conversations), conversations, SHAREGPT, train_on=False, split=split_think
    )
    add_system(before, get_text(row, system, optional=True), system)
    better = _answers(row, chosen, split_think)
    worse = _answers(row, rejected, split_think)
    return _pair(before, better, worse, row, tools, (chosen, rejected))


@register("format", "intel_orca_dpo")
def intel_orca_dpo(
    row: Row,
    question: str = "question",
    chosen: str = "chosen",
    rejected: str = "rejected",
    system: str = "system",
) -> PreferencePair:
    """Intel Orca pairs (``Intel/orca_dpo_pairs``): ``system``, ``question``, ``chosen`` and ``rejected`` texts.

    An empty system text is none.

    Example:
        ``{"system": "", "question": "Is the sky blue?", "chosen": "Yes.", "rejected": "No."}``
    """
    before = [Message("user", get_text(row, question))]
    add_system(before, get_text(row, system, optional=True), system)
    better, worse = [assistant_message(get_text(row, chosen))], [assistant_message(get_text(row, rejected))]
    return _pair(before, better, worse, row, None, (chosen, rejected))


@register("format", "orpo_dpo_mix_40k")
def orpo_dpo_mix_40k(row: Row, chosen: str = "chosen", rejected: str = "rejected") -> PreferencePair:
    """ORPO-DPO mix (``mlabonne/orpo-dpo-mix-40k``): two whole conversations, ``chosen`` and ``rejected``.

    What both have in common becomes the prompt. XTuner takes all but the last turn of ``chosen``,
    also where ``rejected`` has others. The columns ``prompt`` and ``question`` say the same again
    and are not read.

    Example:
        ``{"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "What?"}]}``
    """
    better, worse = _answers(row, chosen, True), _answers(row, rejected, True)
    before, better, worse = _part(better, worse, chosen, rejected)
    return _pair(before, better, worse, row, None, (chosen, rejected))


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

    The label is true where the answer is wanted, and may stand in ``kto_tag`` instead. A whole
    conversation (also in the column ``messages``) ends with the answer that is judged.

    Args:
        row: the row.
        prompt: the column of the prompt.
        completion: the column of the answer.
        label: the column of the label.
        conversations: the column of a whole conversation.
        kto_tag: the column of the label, where there is no ``label``.
        system: the column of the system text; may be missing.
        tools: the column of the functions' descriptions; may be missing.
        split_think: whether an answer that begins with ``<think>`` becomes reasoning and content.

    Example:
        ``{"prompt": "Is the sky blue?", "completion": "Yes.", "label": true}``
    """
    if row.get(conversations) is None and row.get("messages") is not None:
        conversations = "messages"
    if row.get(conversations) is None:
        before, said = _prompt(row, prompt, split_think), _answers(row, completion, split_think)
        held = completion
    elif row.get(completion) is not None:
        raise DataError(f"field {completion}: stands beside {conversations}, expected one of them")
    else:
        turns = parse_messages(get_list(row, conversations), conversations, SHAREGPT, split=split_think)
        # What is judged is the last turn, whatever a switch says of it.
        before, said = (
            _untargeted(turns[:-1]),
            [replace(turns[-1], is_target=turns[-1].role == "assistant")],
        )
        held = conversations
    add_system(before, get_text(row, system, optional=True), system)
    _check_parts(before, said, held)
    return UnpairedExample(before, said, _label(row, label, kto_tag), get_tools(row, tools))


def _label(row: Row, label: str, other: str) -> bool:
    found = [parse_bool(row[each], each) for each in (label, other) if row.get(each) is not None]
    if not found:
        raise missing_field_error(row, label, expected=f"true or false (here, or in {other})")
    if len(set(found)) > 1:
        raise DataError(
            f"field {label}: got {found[0]}, and {other} says the opposite; expected one of them"
        )
    return found[0]


def _answers(row: Row, field: str, split: bool) -> list[Message]:
    """A text, a turn or a list of turns."""
    value = row.get(field)
    if value is None:
        raise missing_field_error(row, field, expected="a text, a turn or a list of turns")
    if isinstance(value, str):
        return [assistant_message(value, split)]
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list) or not turns:
        raise type_error(field, value, "a text, a turn or a list of turns")
    return parse_messages(turns, field, SHAREGPT, split=split)


def _prompt(row: Row, field: str, split: bool) -> list[Message]:
    value = row.get(field)
    if isinstance(value, str):
        return [Message("user", value)]
    if value is None:
        raise missing_field_error(row, field, expected="a text or a list of turns")
    if not isinstance(value, list) or not value:
        raise type_error(field, value, "a text or a list of turns")
    return parse_messages(value, field, SHAREGPT, train_on=False, split=split)


def _part(
    better: list[Message], worse: list[Message], chosen: str, rejected: str
) -> tuple[list[Message], list[Message], list[Message]]:
    """Part two conversations where they begin to differ: the prompt, and the rest of both."""
    count = 0
    for one, other in zip(better, worse, strict=False):
        if not _equal_content(one, other):
            break
        count += 1
    if count == 0:
        raise DataError(
            f"field {chosen}: its first turn is not that of {rejected}, expected the same prompt in both, or a "
            "prompt in a column of its own"
        )
    if count == len(better) == len(worse):
        raise IdenticalAnswersError(f"field {chosen}: is the same as {rejected}, so nothing is preferred")
    return _untargeted(better[:count]), better[count:], worse[count:]


def _check_prompt(row: Row, field: str, before: Messages, split: bool) -> None:
    """Check that a prompt says what two whole conversations have in common."""
    value = row[field]
    if isinstance(value, str):
        if any(each.role == "user" and each.content.strip() == value.strip() for each in before):
            return
    else:
        told = _prompt(row, field, split)
        if len(told) == len(before) and all(map(_equal_content, told, before)):
            return
    raise DataError(
        f"field {field}: is not what the two answers begin with, expected the same prompt in both places; to read "
        f"the answers alone, name a column that is not there (prompt='')"
    )


def _pair(
    before: list[Message],
    better: list[Message],
    worse: list[Message],
    row: Row,
    tools: str | None,
    fields: tuple[str, str],
    scores: tuple[str, str] = _SCORES[0],
) -> PreferencePair:
    for field, said in zip(fields, (better, worse), strict=True):
        _check_parts(before, said, field)
    if len(better) == len(worse) and all(map(_equal_content, better, worse)):
        raise IdenticalAnswersError(
            f"field {fields[0]}: is the same as {fields[1]}, so nothing is preferred"
        )
    functions = get_tools(row, tools) if tools is not None else ()
    return PreferencePair(before, better, worse, functions, _scores(row, scores))


def _scores(row: Row, named: tuple[str, str]) -> tuple[float, float] | None:
    for better, worse in (named, *_SCORES):
        if row.get(better) is not None and row.get(worse) is not None:
            return parse_float(row[better], better), parse_float(row[worse], worse)
    return None


def _check_parts(before: Sequence[Message], said: Sequence[Message], field: str) -> None:
    last = before[-1].role if before else "nobody"
    if last not in ("user", "tool"):
        raise DataError(
            f"field {field}: the turn before is of {last}, expected of the user or a tool, who asks"
        )
    first = said[0].role if said else "nobody"
    if first != "assistant":
        raise DataError(
            f"field {field}: the answer begins with a turn of {first}, expected of the assistant"
        )


def _equal_content(one: Message, other: Message) -> bool:
    return one is other or replace(one, is_target=False) == replace(other, is_target=False)


def _untargeted(messages: Sequence[Message]) -> list[Message]:
    """The same turns, none of them trained."""
    return [replace(each, is_target=False) if each.is_target else each for each in messages]
