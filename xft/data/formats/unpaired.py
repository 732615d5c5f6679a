"""Read prompts with one completion: labeled answers (KTO), and questions whose answer is the target."""

from dataclasses import replace

from xft.data.formats.completions import check_roles, read_turns, without_targets
from xft.data.formats.getters import field_error, get_list, get_text, missing_field_error, parse_bool
from xft.data.formats.images import get_images
from xft.data.formats.messages import SHAREGPT, add_system, parse_messages
from xft.data.formats.tool_calls import get_tools
from xft.registry import register
from xft.types import Conversation, Message, Row, UnpairedExample


@register("format", "prompt_completion")
def prompt_completion(
    row: Row,
    prompt: str = "prompt",
    completion: str = "completion",
    system: str = "system",
    tools: str = "tools",
    split_think: bool = True,
) -> list[Message] | Conversation:
    """TRL's prompt and completion: ``prompt`` and ``completion``, each a text or a list of messages.

    Assistant turns of the completion are targets; those of the prompt are not. Texts become a turn of the user and one
    of the assistant, while TRL trains them without a chat template. The columns ``images`` and ``image`` hold images of
    the prompt, with a part or the mark ``<image>`` for each.

    Args:
        row: the row.
        prompt: column of the prompt.
        completion: column of the answer.
        system: column of the system text; may be missing.
        tools: column of the tools; may be missing.
        split_think: split an answer that starts with ``<think>`` into reasoning and content.

    Example:
        ``{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello"}]}``
    """
    images = get_images(row)
    prompt_turns = without_targets(read_turns(row, prompt, split_think, is_answer=False, images=images))
    answer = read_turns(row, completion, split_think)
    add_system(prompt_turns, get_text(row, system, optional=True), system)
    check_roles(prompt_turns, answer, completion)
    described_tools = get_tools(row, tools)
    turns = [*prompt_turns, *answer]
    return Conversation(turns, described_tools) if described_tools else turns


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
            read_turns(row, prompt, split_think, is_answer=False),
            read_turns(row, completion, split_think),
        )
        field = completion
    elif row.get(completion) is not None:
        raise field_error(completion, f"got this column and {conversations}", "one of them")
    else:
        turns = parse_messages(get_list(row, conversations), conversations, SHAREGPT, split=split_think)
        # The last turn is the labeled answer, even if its loss flag is false.
        prompt_turns, answer = (
            without_targets(turns[:-1]),
            [replace(turns[-1], is_target=turns[-1].role == "assistant")],
        )
        field = conversations
    add_system(prompt_turns, get_text(row, system, optional=True), system)
    check_roles(prompt_turns, answer, field)
    return UnpairedExample(prompt_turns, answer, _label(row, label, kto_tag), get_tools(row, tools))


def _label(row: Row, label: str, other: str) -> bool:
    labels = [parse_bool(row[field], field) for field in (label, other) if row.get(field) is not None]
    if not labels:
        raise missing_field_error(row, label, expected=f"true or false (here, or in {other})")
    if len(set(labels)) > 1:
        raise field_error(label, f"got {labels[0]}, and {labels[1]} in {other}", "equal values", labels[0])
    return labels[0]
