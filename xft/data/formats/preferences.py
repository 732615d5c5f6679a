"""Read preference pairs: chosen and rejected.

Assistant turns after the prompt are targets; those within the prompt are not.
"""

from collections.abc import Sequence
from dataclasses import replace

from xft.data.formats.alpaca import alpaca_question
from xft.data.formats.completions import check_roles, read_turns, without_targets
from xft.data.formats.getters import field_error, get_list, get_text, parse_float
from xft.data.formats.images import get_images
from xft.data.formats.messages import SHAREGPT, add_system, assistant_message, parse_messages
from xft.data.formats.single_turn import qa_messages
from xft.data.formats.tool_calls import get_tools
from xft.errors import DataError, IdenticalAnswersError
from xft.registry import register
from xft.types import Image, Message, Messages, PreferencePair, Row

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
    messages: str = "messages",
    rejected_response: str = "rejected_response",
) -> PreferencePair:
    """Preference pairs: ``prompt``, ``chosen`` and ``rejected``, each a text or a list of messages.

    These are TRL's forms. Without a prompt, or if ``chosen`` and ``rejected`` start with a user turn, both are whole
    conversations, and their common prefix becomes the prompt. The keys of messages are role and content, or from and
    value. If both answers have scores, rows whose chosen answer scores lower are counted.

    The columns ``images`` and ``image`` hold the images of the prompt, with a part or the mark ``<image>`` for each.

    Rows of ms-swift are read too: a conversation in ``messages``, whose last answer is the chosen one, and the other
    answer in ``rejected_response``.

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
        messages: column of a conversation that ends with the preferred answer.
        rejected_response: column of the other answer to that conversation.

    Example:
        ``{"prompt": "Is the sky blue?", "chosen": "Yes.", "rejected": "No."}``
    """
    if row.get(chosen) is None and row.get(rejected_response) is not None:
        return _ms_swift_pair(row, messages, rejected_response, system, tools, split_think)
    images = get_images(row)
    shown = images if row.get(prompt) is None else []
    chosen_turns = read_turns(row, chosen, split_think, images=shown)
    if not shown and images and chosen_turns[0].role != "assistant":
        shown = images
        chosen_turns = read_turns(row, chosen, split_think, images=shown)
    rejected_turns = read_turns(row, rejected, split_think, images=shown)
    if row.get(prompt) is None or chosen_turns[0].role != "assistant":
        prompt_turns, chosen_turns, rejected_turns = _split_prompt(
            chosen_turns, rejected_turns, chosen, rejected
        )
        if row.get(prompt) is not None:
            _check_common_prefix(row, prompt, prompt_turns, split_think, images)
    else:
        prompt_turns = read_turns(row, prompt, split_think, is_answer=False, images=images)
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
        get_list(row, conversations),
        conversations,
        SHAREGPT,
        train_on=False,
        split=split_think,
        images=get_images(row),
    )
    add_system(prompt_turns, get_text(row, system, optional=True), system)
    chosen_turns = read_turns(row, chosen, split_think)
    rejected_turns = read_turns(row, rejected, split_think)
    return _pair(prompt_turns, chosen_turns, rejected_turns, row, tools, (chosen, rejected))


@register("format", "alpaca_preference")
def alpaca_preference(
    row: Row,
    instruction: str = "instruction",
    input: str = "input",
    chosen: str = "chosen",
    rejected: str = "rejected",
    system: str = "system",
    split_think: bool = True,
) -> PreferencePair:
    """Alpaca preference pairs: ``instruction``, ``input``, ``chosen`` and ``rejected``; optionally ``system``.

    This is LLaMA-Factory's form. The input follows the instruction on a separate line, as in ``alpaca``. The columns
    ``images`` and ``image`` hold images of the instruction.

    Example:
        ``{"instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "12"}``
    """
    rules = get_text(row, system, optional=True)
    images = get_images(row, (instruction, input))
    prompt_turns = qa_messages(alpaca_question(row, instruction, input), "", rules, images=images)[:-1]
    chosen_turns, rejected_turns = (
        read_turns(row, chosen, split_think),
        read_turns(row, rejected, split_think),
    )
    return _pair(prompt_turns, chosen_turns, rejected_turns, row, None, (chosen, rejected))


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
    chosen_turns, rejected_turns = read_turns(row, chosen, True), read_turns(row, rejected, True)
    prompt_turns, chosen_turns, rejected_turns = _split_prompt(
        chosen_turns, rejected_turns, chosen, rejected
    )
    return _pair(prompt_turns, chosen_turns, rejected_turns, row, None, (chosen, rejected))


def _ms_swift_pair(
    row: Row, messages: str, rejected: str, system: str, tools: str, split: bool
) -> PreferencePair:
    turns = parse_messages(get_list(row, messages), messages, SHAREGPT, split=split, images=get_images(row))
    # The chosen answer begins after the last turn of the user.
    begin = max((index for index, turn in enumerate(turns, 1) if turn.role == "user"), default=0)
    prompt_turns = without_targets(turns[:begin])
    add_system(prompt_turns, get_text(row, system, optional=True), system)
    rejected_turns = read_turns(row, rejected, split)
    return _pair(prompt_turns, turns[begin:], rejected_turns, row, tools, (messages, rejected))


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
    return without_targets(chosen_turns[:count]), chosen_turns[count:], rejected_turns[count:]


def _check_common_prefix(
    row: Row, field: str, prefix: Messages, split: bool, images: Sequence[Image]
) -> None:
    """Check that the prompt of a row equals the common prefix of its two conversations."""
    value = row[field]
    prompt = read_turns(row, field, split, is_answer=False, images=images)
    if isinstance(value, str) and prompt == [Message("user", value)]:
        if any(turn.role == "user" and turn.content.strip() == value.strip() for turn in prefix):
            return
    elif len(prompt) == len(prefix) and all(map(_equal_content, prompt, prefix)):
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
        check_roles(prompt, answer, field)
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


def _equal_content(one: Message, other: Message) -> bool:
    return one is other or replace(one, is_target=False) == replace(other, is_target=False)
