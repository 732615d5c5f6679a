"""The mistakes that a user can make, and the exit code of each.

A ``XftError`` is something that the user can mend: its message says what was wrong, where,
what was got, what was expected and what to do. Any other exception is a fault of ours or of a
component of the user's: it ends in one line too, and ``--debug`` shows its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class XftError(Exception):
    """Base class of every mistake that the user can mend."""

    exit_code = 1


class ConfigError(XftError):
    """The config, the command line or the work folder cannot be used."""

    exit_code = 2


class DataError(XftError):
    """A row, a file or a whole data set cannot be used.

    Attributes:
        reason: what the ledger calls a row that is set aside for it.
    """

    exit_code = 3
    reason = "does not fit the format"


class EmptyAnswerError(DataError):
    """An answer that is to be learned, or shunned, says nothing."""

    reason = "an answer is empty"


class SameAnswersError(DataError):
    """The chosen answer of a pair is the rejected one."""

    reason = "chosen and rejected are the same"


class TemplateError(DataError):
    """A conversation cannot be represented by the chat template."""


class ModelError(XftError):
    """A model, an adapter or a tokenizer cannot be used."""

    exit_code = 4


class CheckpointError(XftError):
    """A checkpoint or an exported folder cannot be written, read or trusted."""

    exit_code = 5


class TrainingError(XftError):
    """The training itself went wrong, for instance a loss that is not finite."""

    exit_code = 6


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are near ``name``, or list them all when none is.

    Args:
        name: what the user wrote.
        known: what would have been accepted.

    Returns:
        A phrase such as ``did you mean 'max_length'?`` or ``known: 'a', 'b'``.
    """
    names = sorted(set(known))
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(each) for each in close) + "?"
    if not names:
        return "nothing is accepted here"
    return "known: " + ", ".join(repr(each) for each in names)
