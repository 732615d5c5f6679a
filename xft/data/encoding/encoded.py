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
        samples: encoded samples: one, the two of a preference pair, or the chunks of a document.
        length: number of tokens before truncation; of a preference pair, that of the longer sample.
        truncated: whether the row was truncated.
        has_unknown: whether the text has a character for which the tokenizer has no token.
    """

    samples: list[Sample]
    length: int
    truncated: bool = False
    has_unknown: bool = False


@dataclass(frozen=True)
class OverlongRow:
    """A row that has too many tokens, and was not truncated.

    Either ``on_overlong`` is not ``truncate``, or nothing more can be removed from the row.

    Attributes:
        num_tokens: number of tokens of its longest sample.
    """

    num_tokens: int


class FatalRowError(DataError):
    """Error of a row that stops the preparation even if invalid rows are quarantined."""


@dataclass
class EncodedChunk:
    """The encoded rows of one chunk of records.

    Attributes:
        rows, samples, tokens, files, images, image_data, columns: as in ``StoreWriter.append``.
        counts: number of rows, images or image tokens by name in the data report, such as ``rows_read``.
        dropped: number of dropped rows by reason.
        too_long: number of tokens of each dropped overlong row.
        quarantined: quarantined rows, each with its location and the reason.
        usage: columns that the format read, and those that it did not.
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
        format: function that maps a row to messages, a preference pair, an unpaired example or a text.
        max_length: maximum number of tokens of a sample.
        on_overlong: what to do with an overlong row: drop it, truncate it (drop it if that is impossible), or raise.
        on_invalid: what to do with a row that the format or a check rejects: raise, or quarantine it.
        group_by: column; rows with the same value are put into the same split.
        image_folder: folder of relative image paths; by default the folder of the data file.
        keep_answers: for prompts, whether to append the last answer of the row, with its tokens as targets.
    """

    format: Callable[[Row], Any]
    max_length: int
    on_overlong: OnOverlong = "drop"
    on_invalid: Literal["error", "quarantine"] = "error"
    group_by: str | None = None
    image_folder: str | None = None
    keep_answers: bool = False
