"""Apply a format to a row, or try it on some rows: which do not fit, and which columns it does not read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from xft.data.formats.content_parts import check_media_columns
from xft.data.formats.tracked_row import ColumnUsage, TrackedRow
from xft.data.sources.location import QUARANTINE_HINT
from xft.errors import DataError, XftError, list_names
from xft.registry import callable_name
from xft.types import Row

MAX_PLACES = 5
"""Rows that an error names at most."""


@dataclass(frozen=True)
class Trial:
    """What a format makes of some rows.

    Attributes:
        misfits: index of a row that does not fit to its error.
        usage: columns that the format reads in the other rows.
    """

    misfits: Mapping[int, XftError]
    usage: ColumnUsage


def apply_format(format: Callable[[Row], object], row: Row) -> Any:
    """Return the value that a format makes of a row.

    Raises:
        DataError: the row does not fit, or the format raises an error.
    """
    try:
        return format(row)
    except XftError:
        raise
    except Exception as error:
        # A user's format may raise anything: the row is at fault, not the program.
        name = callable_name(format.func if isinstance(format, partial) else format).rpartition(".")[2]
        columns = list_names(row) or "no columns"
        problem = f"the format {name!r} raises {type(error).__name__}: {error} (the row has {columns})"
        raise DataError(problem) from error


def try_format(format: Callable[[Row], object], rows: Sequence[Row], kind: str) -> Trial:
    """Try a format on rows.

    Args:
        format: the format, with its arguments bound.
        rows: the rows.
        kind: ``data.type``. Documents do not refer to the images of their rows.
    """
    misfits: dict[int, XftError] = {}
    usage = ColumnUsage()
    for index, row in enumerate(rows):
        tracked = TrackedRow(row)
        try:
            apply_format(format, tracked)
            if kind != "text":
                check_media_columns(tracked)
        except XftError as error:
            misfits[index] = error
        else:
            usage.add(tracked)
    return Trial(misfits, usage)


def misfit_error(trial: Trial, places: Sequence[object], override: str) -> DataError:
    """Return the error of the rows that do not fit: that of the first one, and the places of others.

    Args:
        trial: a trial with misfits.
        places: places of all rows, such as file and line.
        override: override of a config that sets the format.
    """
    index, error = next(iter(trial.misfits.items()))
    named = [str(places[index]) for index in trial.misfits]
    more = f" and {len(named) - MAX_PLACES} more" if len(named) > MAX_PLACES else ""
    message = (
        f"{places[index]}: {error} {QUARANTINE_HINT}. {len(named)} of the {len(places)} rows that were tried do not fit "
        f"{override}: {', '.join(named[:MAX_PLACES])}{more}"
    )
    return DataError(message, key=error.key, got=error.got, expected=error.expected, fix=error.fix)
