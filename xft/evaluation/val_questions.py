"""Sample questions from validation rows, for runs without questions of their own."""

from collections.abc import Iterator

from xft.data import DatasetConfig, SampleView
from xft.data.formats.trial import apply_format
from xft.data.formats.turns_as_text import mark_turn_columns
from xft.data.sources import RecordReader, parse, resolve_source
from xft.errors import DataError
from xft.evaluation.prompts import EvalPrompt
from xft.types import Conversation, PreferencePair, UnpairedExample

MAX_QUESTIONS = 5
MAX_ROWS = 50
"""First validation rows among which the questions are."""


def val_questions(data: object, val: SampleView) -> list[EvalPrompt]:
    """Return validation rows as sample questions: those that consist of a question and an answer, the reference.

    References are compared word by word (scorer ``f1``). Rows with several questions, tools or images are left out, and so
    are rows whose answer is that of another question. Preference pairs give questions without a reference.

    Args:
        data: config of the dataset; a mixture, and a dataset of the hub, give no questions.
        val: validation samples that it has prepared.
    """
    if not isinstance(data, DatasetConfig):
        return []
    prompts: dict[str, EvalPrompt] = {}
    for value in _read_values(data, val):
        prompt = _as_prompt(value)
        if prompt is not None:
            prompts.setdefault(prompt.reference or prompt.question, prompt)
        if len(prompts) == MAX_QUESTIONS:
            break
    return list(prompts.values())


def _read_values(data: DatasetConfig, val: SampleView) -> Iterator[object]:
    """Read the first validation rows again, and yield what the format makes of them."""
    step = data.samples_per_example
    places = {_short(val.origin(index)) for index in range(0, min(len(val), MAX_ROWS * step), step)}
    format = data.encoding_options().format
    for path in data.val_paths or data.paths:
        source = resolve_source(path)
        if source.hub is not None:
            continue
        for location, raw in mark_turn_columns(RecordReader(source), source):
            if not places:
                return
            if _short(str(location)) in places:
                places.remove(_short(str(location)))
                try:
                    yield apply_format(format, parse(location, raw))
                except DataError:  # the file has changed since it was prepared
                    continue


def _short(origin: str) -> str:
    """Return the place of a row without the folder, which may differ from that of the prepared data."""
    return origin.rpartition("/")[2]


def _as_prompt(value: object) -> EvalPrompt | None:
    """Return the question and the answer of a row; ``None`` if it has others, or parts that a question cannot have."""
    kwargs = value.template_kwargs if isinstance(value, Conversation) else {}
    if isinstance(value, (PreferencePair, UnpairedExample)):
        messages, tools = list(value.prompt), value.tools
    elif isinstance(value, Conversation):
        messages, tools = list(value.messages), value.tools
    elif isinstance(value, list):
        messages, tools = value, ()
    else:
        return None
    system = messages.pop(0).content if messages and messages[0].role == "system" else None
    roles = [message.role for message in messages]
    if tools or roles not in (["user"], ["user", "assistant"]):
        return None
    if any(message.images or message.tool_calls for message in messages) or not messages[0].content:
        return None
    reference = messages[1].content if len(messages) > 1 else None
    return EvalPrompt(messages[0].content, reference, system, "f1" if reference else None, kwargs)
