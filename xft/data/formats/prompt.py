"""Read prompts for reinforcement learning."""

from xft.data.formats.getters import get_list, get_text
from xft.data.formats.messages import OPENAI, add_system, parse_messages
from xft.data.formats.tool_calls import get_tools
from xft.registry import register
from xft.types import Conversation, Message, Row


@register("format", "prompt")
def prompt(
    row: Row,
    prompt: str = "prompt",
    system: str = "system",
    tools: str = "tools",
    system_text: str = "",
) -> list[Message] | Conversation:
    """Prompts: a text, or ``messages`` of role and content (TRL's prompt-only type); rewards get all columns.

    Args:
        row: the row.
        prompt: column of the prompt.
        system: column of the system text; may be missing.
        tools: column of the tools, a list or JSON text; may be missing.
        system_text: system text of rows that have none.

    Example:
        ``{"prompt": "What is 2 + 3?", "reference": "5"}``
    """
    if isinstance(row.get(prompt), list):
        turns = parse_messages(get_list(row, prompt), prompt, OPENAI)
    else:
        turns = [Message("user", get_text(row, prompt))]
    if system in row:
        add_system(turns, get_text(row, system, optional=True), system)
    if system_text and turns[0].role != "system":
        turns.insert(0, Message("system", system_text))
    described_tools = get_tools(row, tools)
    return Conversation(turns, described_tools) if described_tools else turns
