"""Formats with one question and one answer that ``columns`` cannot express.

``system_text`` is the system text of every row. XTuner sets one for some of these datasets
(``SYSTEM_TEMPLATE``); xft sets one only if the row alone does not state the task.
"""

from collections.abc import Sequence

from xft.data.formats.getters import field_error, get_text
from xft.data.formats.images import image_message
from xft.data.formats.messages import assistant_message
from xft.registry import register
from xft.types import Image, Message, Row

COLORIST = (
    "You are a professional color designer. Please provide the corresponding colors based on the "
    "description of Human."
)
"""XTuner's system text for ``colors``, without its last line break."""

SQL = (
    "If you are an expert in SQL, please generate a good SQL Query for Question based on the CREATE TABLE "
    "statement."
)
"""XTuner's system text for ``sql``, without its last line break."""


def qa_messages(
    question: str,
    answer: str,
    system_text: str = "",
    split_think: bool = True,
    images: Sequence[Image] = (),
) -> list[Message]:
    """Return a question and its answer, after a system message if there is a system text.

    Raises:
        DataError: the question has marks for another number of images.
    """
    asked = image_message(question, images) if images else Message("user", question)
    messages = [asked, assistant_message(answer, split_think)]
    if system_text:
        messages.insert(0, Message("system", system_text))
    return messages


def join_lines(first: str, second: str) -> str:
    """Join two texts by a line break; an empty second text adds nothing."""
    return f"{first}\n{second}" if second else first


@register("format", "colors")
def colors(
    row: Row,
    description: str = "description",
    color: str = "color",
    keep_name: bool = True,
    system_text: str = COLORIST,
) -> list[Message]:
    """Colors (``burkelibbey/colors``): from a ``description`` to the ``color`` as a hexadecimal code.

    A description starts with the name of the color and a colon. ``keep_name=False`` removes both, as XTuner does,
    and rejects a description without a colon, because nothing would be left.

    Example:
        ``{"description": "Pure Black: the darkest shade.", "color": "#000000"}``
    """
    words = get_text(row, description)
    if not keep_name:
        name, colon, words = words.partition(":")
        words = words.strip()
        if not colon or not words:
            raise field_error(
                description,
                f"got {name!r:.80}",
                "'<name>: <description>'",
                name,
                "keep_name=True keeps the description unchanged",
            )
    return qa_messages(words, get_text(row, color), system_text)


@register("format", "medical")
def medical(
    row: Row,
    instruction: str = "instruction",
    input: str = "input",
    output: str = "output",
    system_text: str = "",
) -> list[Message]:
    """Chinese medical dialogues (``shibing624/medical``): ``instruction``, ``input`` and ``output``.

    An empty ``input`` adds no line to the instruction.

    Example:
        ``{"instruction": "I cough.", "input": "", "output": "Since when?"}``
    """
    question = join_lines(get_text(row, instruction), get_text(row, input, optional=True))
    return qa_messages(question, get_text(row, output), system_text)


@register("format", "openorca")
def openorca(
    row: Row, question: str = "question", response: str = "response", system_prompt: str = "system_prompt"
) -> list[Message]:
    """OpenOrca (``Open-Orca/OpenOrca``): ``system_prompt``, ``question`` and ``response``.

    The system text may be empty.

    Example:
        ``{"system_prompt": "Be brief.", "question": "Hi", "response": "Hello"}``
    """
    system_text = get_text(row, system_prompt, optional=True)
    return qa_messages(get_text(row, question), get_text(row, response), system_text)


@register("format", "sql")
def sql(
    row: Row,
    question: str = "question",
    context: str = "context",
    answer: str = "answer",
    system_text: str = SQL,
) -> list[Message]:
    """SQL questions (``b-mc2/sql-create-context``): ``context`` (CREATE TABLE), ``question`` and ``answer``.

    Example:
        ``{"context": "CREATE TABLE head (age INTEGER)", "question": "How many heads?", "answer": "SELECT ..."}``
    """
    question_text = get_text(row, question)
    tables = get_text(row, context)
    if not tables:
        raise field_error(
            context, "is empty", "the CREATE TABLE statements that the question refers to", tables
        )
    return qa_messages(join_lines(tables, question_text), get_text(row, answer), system_text)
