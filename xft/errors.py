"""Exceptions for mistakes that the user can fix, and the exit code of each.

Any other exception is a bug in xft or in a user component. It is printed in one line too; ``--debug`` shows its
traceback.
"""

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from itertools import islice
from reprlib import Repr
from typing import Self

_ABSENT = object()
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "Cannot allocate memory", "failed to map segment")
"""Texts of torch, CUDA, the operating system and its loader of libraries."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, reports that memory is exhausted."""
    while error is not None:
        text = str(error)
        is_system_error = isinstance(error, (RuntimeError, OSError, ImportError))
        if isinstance(error, MemoryError) or (
            is_system_error and any(part in text for part in _OUT_OF_MEMORY)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


class XftError(Exception):
    """Base class of all mistakes that the user can fix.

    Give either a finished ``message``, or the parts of one: ``ConfigError(key="training.epochs", got=0,
    expected="more than 0")`` reads ``training.epochs: got 0; expected more than 0``. Tests compare the
    attributes, which keeps the wording free to change.

    Args:
        message: finished message; built from the other arguments if empty.
        key: config key, option, file or field with the mistake.
        got: value at ``key``; omit it for a missing one.
        expected: accepted values, as a phrase.
        fix: advice, as a sentence without the final period.
        causes: errors that a combined ``message`` lists.

    Attributes:
        key, got, expected, fix, causes: the arguments.
    """

    exit_code = 1

    def __init__(
        self,
        message: str = "",
        *,
        key: str = "",
        got: object = _ABSENT,
        expected: str = "",
        fix: str = "",
        causes: Sequence["XftError"] = (),
    ) -> None:
        if not message:
            parts = [f"got {short_repr(got)}"] if got is not _ABSENT else []
            parts += [f"expected {expected}"] if expected else []
            message = (
                f"{key if key.isprintable() else repr(key)}: "
                + "; ".join(parts)
                + (f". {fix[:1].upper()}{fix[1:]}" if fix else "")
            )
        self.key, self.expected, self.fix, self.causes = key, expected, fix, tuple(causes)
        self.got = None if got is _ABSENT else got
        super().__init__(message)

    def prefixed(self, place: object) -> Self:
        """Return a copy whose message starts with a place, such as a file and a line."""
        return type(self)(
            f"{place}: {self}",
            key=self.key,
            got=self.got,
            expected=self.expected,
            fix=self.fix,
            causes=self.causes,
        )


class ConfigError(XftError):
    """The config, the command line or the run folder cannot be used."""

    exit_code = 2


class DataError(XftError):
    """A row, a file or a whole dataset cannot be used.

    Attributes:
        reason: name of the mistake in the counts of quarantined rows.
    """

    exit_code = 3
    reason = "does not fit the format"


class EmptyAnswerError(DataError):
    """A target answer is empty."""

    reason = "an answer is empty"


class IdenticalAnswersError(DataError):
    """The chosen answer of a pair equals the rejected one."""

    reason = "chosen and rejected are the same"


class TemplateError(DataError):
    """The chat template cannot represent a conversation."""


class ModelError(XftError):
    """A model, an adapter or a tokenizer cannot be used."""

    exit_code = 4


class CheckpointError(XftError):
    """A checkpoint or an exported folder cannot be written, read or verified."""

    exit_code = 5


class TrainingError(XftError):
    """Training failed, for instance because of a non-finite loss."""

    exit_code = 6


def short_repr(value: object, length: int = 120) -> str:
    """Return the repr of a value on one line, shortened.

    Args:
        value: any value.
        length: maximum number of characters of a text or a number in it; the whole has at most six times as many.
    """
    shortener = Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = length
    shortener.maxlevel = 4
    try:
        text = shortener.repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return "a number that is too long to print"
    return text if len(text) <= 6 * length else text[: 6 * length - 1] + "…"


MAX_NAMES = 20
"""Names that a message lists at most."""


def list_names(names: Collection[object]) -> str:
    """Return the reprs of names, shortened: ``'a', 'b' and 998 more``; empty without names."""
    shown = ", ".join([short_repr(name) for name in islice(names, MAX_NAMES)])
    return f"{shown} and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else shown


class RunInterrupted(KeyboardInterrupt):
    """A signal has ended the run in good order. It is no ``Exception``, which a handler of errors would catch.

    Args:
        signal_number: number of the signal.
        message: message for the terminal.

    Attributes:
        exit_code: exit code that a shell reports for a process ended by the signal.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the known names closest to ``name``, or list all of them if none is close.

    Args:
        name: name that the user wrote.
        known: accepted names.

    Returns:
        A phrase such as ``did you mean 'max_length'?`` or ``known: 'a', 'b'``.
    """
    names = sorted(set(known))
    close = get_close_matches(name[:100], names, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    if not names:
        return "nothing is accepted here"
    return "known: " + ", ".join(repr(accepted) for accepted in names)
