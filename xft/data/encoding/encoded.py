"""Encoded rows and chunks, and the options of their encoding."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt

from xft.data.formats.tracked_row import ColumnUsage
from xft.data.store.token_store import FileName
from xft.errors import DataError, EmptyAnswerError, IdenticalAnswersError
from xft.types import Row, Sample

OnOverlong = Literal["drop", "truncate", "error"]
OVERLONG_REASON = "longer than max_length"
QUARANTINE_REASONS = tuple(error.reason for error in (DataError, EmptyAnswerError, IdenticalAnswersError))
"""Reasons for which ``on_invalid='quarantine'`` drops a row."""


@dataclass
class EncodedRow:
    """The samples of a row.

    Attributes:
        samples: encoded samples.
        length: tokens before truncation.
        truncated: whether the row was truncated.
        has_unknown: whether the tokenizer has no token for one of the characters.
    """

    samples: list[Sample]
    length: int
    truncated: bool = False
    has_unknown: bool = False


class FatalRowError(DataError):
    """A row that ends the preparation even if invalid rows are quarantined."""


class TooLong(Exception):
    """A row is too long and cannot be truncated. ``args`` is its length in tokens."""


@dataclass
class EncodedChunk:
    """The result of some records.

    Attributes:
        rows, samples, tokens, files, images, image_data: as in ``StoreWriter.append``.
        counts: numbers of rows by their name in the data report, such as ``rows_read``.
        dropped: reason to number of rows.
        too_long: lengths in tokens of the rows dropped for length.
        quarantined: quarantined rows, each with its location and the reason.
        usage: columns that the format has read, and those that it has not.
        columns: as in ``StoreWriter.append``.
    """

    rows: npt.NDArray[Any]
    samples: npt.NDArray[Any]
    tokens: bytes
    files: list[FileName]
    images: npt.NDArray[Any]
    image_data: bytes
    counts: Counter[str]
    dropped: Counter[str] = field(default_factory=Counter)
    too_long: list[int] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    usage: ColumnUsage = field(default_factory=ColumnUsage)
    columns: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class EncodingOptions:
    """The keys of a dataset config that decide how a row is encoded.

    Attributes:
        format: function from a row to a value.
        max_length: maximum number of tokens of a sample.
        on_overlong: what happens to a longer row.
        on_invalid: what happens to a row that does not fit.
        group_by: column whose value keeps rows in one split.
        image_folder: folder of relative paths of images; the folder of the data file by default.
        keep_answers: the last answer follows the prompt, as its targets.
    """

    format: Callable[[Row], Any]
    max_length: int
    on_overlong: OnOverlong = "drop"
    on_invalid: Literal["error", "quarantine"] = "error"
    group_by: str | None = None
    image_folder: str | None = None
    keep_answers: bool = False
