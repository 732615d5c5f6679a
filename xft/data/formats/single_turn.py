"""Formats of one question and one answer, each a column of a table.

Those that are named after a data set read its columns; for a table of your own take ``columns``.
``system_text`` is the system text of every row. XTuner sets one for some of these data sets
(``SYSTEM_TEMPLATE``); here it is given where a row does not say by itself what is asked.
"""

from xft.data.formats.getters import get_text
from xft.data.formats.messages import assistant_message
from xft.errors import DataError
from xft.registry import register
from xft.types import Message, Row

ARXIV = (
    "If you are an expert in writing papers, please generate a good paper title for this paper based on "
    "other authors' descriptions of their abstracts."
)
"""XTuner's system text for ``arxiv``, without its last line break."""

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


def qa_messages(question: str, reply: str, rules: str = "", split: bool = True) -> list[Message]:
    """A question and its answer, behind a system text where there is one."""
    turns = [Message("user", question), assistant_message(reply, split)]
    if rules:
        turns.insert(0, Message("system", rules))
    return turns


def join_lines(first: str, second: str) -> str:
    """Two texts on lines of their own; the first alone where the second is empty."""
    return f"{first}\n{second}" if second else first


@register("format", "arxiv")
def arxiv(
    row: Row, abstract: str = "abstract", title: str = "title", system_text: str = ARXIV
) -> list[Message]:
    """Kaggle's arXiv metadata: from an ``abstract`` to its ``title``.

    Example:
        ``{"abstract": "We count apples.", "title": "Apples"}``
    """
    return qa_messages(get_text(row, abstract), get_text(row, title), system_text)


@register("format", "code_alpaca")
def code_alpaca(
    row: Row, prompt: str = "prompt", completion: str = "completion", system_text: str = ""
) -> list[Message]:
    """Code Alpaca (``HuggingFaceH4/CodeAlpaca_20K``): ``prompt`` and ``completion``.

    Example:
        ``{"prompt": "Print 1 in Python.", "completion": "print(1)"}``
    """
    return qa_messages(get_text(row, prompt), get_text(row, completion), system_text)


@register("format", "colors")
def colors(
    row: Row,
    description: str = "description",
    color: str = "color",
    keep_name: bool = True,
    system_text: str = COLORIST,
) -> list[Message]:
    """Colors (``burkelibbey/colors``): from a ``description`` to the ``color`` as a hexadecimal code.

    A description begins with the name of the color and a colon. XTuner takes that away; so does
    ``keep_name=False``, and refuses a description without a colon, of which nothing would be left.

    Example:
        ``{"description": "Pure Black: the darkest shade.", "color": "#000000"}``
    """
    words = get_text(row, description)
    if not keep_name:
        name, colon, words = words.partition(":")
        words = words.strip()
        if not colon or not words:
            raise DataError(
                f"field {description}: got {name!r:.80}, expected '<name>: <description>'; keep_name=True takes "
                "a description as it is"
            )
    return qa_messages(words, get_text(row, color), system_text)


@register("format", "crime_kg_assistant")
def crime_kg_assistant(
    row: Row, input: str = "input", output: str = "output", system_text: str = ""
) -> list[Message]:
    """CrimeKgAssitant, cleaned by LAW-GPT (52k Chinese legal questions): ``input`` and ``output``.

    Example:
        ``{"input": "What is theft?", "output": "Taking what is another's."}``
    """
    return qa_messages(get_text(row, input), get_text(row, output), system_text)


@register("format", "law_reference")
def law_reference(
    row: Row, question: str = "question", answer: str = "answer", system_text: str = ""
) -> list[Message]:
    """LAW-GPT with legal references (92k Chinese rows): ``question`` and ``answer``.

    The column ``reference``, the articles of law behind the answer, is not read.

    Example:
        ``{"question": "What is theft?", "answer": "Taking what is another's.", "reference": []}``
    """
    return qa_messages(get_text(row, question), get_text(row, answer), system_text)


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
    rules = get_text(row, system_prompt, optional=True)
    return qa_messages(get_text(row, question), get_text(row, response), rules)


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
    asks = get_text(row, question)
    tables = get_text(row, context)
    if not tables:
        raise DataError(
            f"field {context}: is empty, expected the CREATE TABLE statements that the question is on"
        )
    return qa_messages(join_lines(tables, asks), get_text(row, answer), system_text)


@register("format", "stack_exchange")
def stack_exchange(
    row: Row, question: str = "question", response: str = "response", system_text: str = ""
) -> list[Message]:
    """Stack Exchange (``ArmelR/stack-exchange-instruction``): ``question`` and ``response``.

    Example:
        ``{"question": "How do I exit vim?", "response": ":q"}``
    """
    return qa_messages(get_text(row, question), get_text(row, response), system_text)


@register("format", "tiny_codes")
def tiny_codes(
    row: Row, prompt: str = "prompt", response: str = "response", system_text: str = ""
) -> list[Message]:
    """Tiny Codes (``nampdn-ai/tiny-codes``): ``prompt`` and ``response``.

    Example:
        ``{"prompt": "Print 1 in Python.", "response": "print(1)"}``
    """
    return qa_messages(get_text(row, prompt), get_text(row, response), system_text)
