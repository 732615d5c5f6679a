"""Exceptions for mistakes that the user can fix, and the exit code of each.

Any other exception is a bug in xft or in a component of the user's. It ends in one line too; ``--debug``
shows its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 120


class XftError(Exception):
    """Base class of all mistakes that the user can fix.

    Give either a finished ``message``, or the parts of one: ``ConfigError(key="training.epochs", got=0,
    expected="more than 0")`` reads ``training.epochs: got 0; expected more than 0``. Tests compare the
    attributes, so that the wording can change.

    Args:
        message: the finished message; built from the other arguments if empty.
        key: config key, option, file or field that is wrong.
        got: the value that was found there.
        expected: what is accepted, as a phrase.
        fix: what to do, as a sentence without the final period.

    Attributes:
        key, got, expected, fix: the arguments.
    """

    exit_code = 1

    def __init__(
        self, message: str = "", *, key: str = "", got: object = None, expected: str = "", fix: str = ""
    ) -> None:
        self.key, self.got, self.expected, self.fix = key, got, expected, fix
        if not message:
            message = f"{key}: got {_SHORT.repr(got)}"
            message += f"; expected {expected}" if expected else ""
            message += f". {fix[:1].upper()}{fix[1:]}" if fix else ""
        super().__init__(message)


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


class IdenticalAnswersError(DataError):
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


def did_you_mean(name: str, known: Iterable[str]) -> str:
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
