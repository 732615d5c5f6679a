"""Encode rows: map each to a value, validate it, tokenize it, fit it into the maximum length.

An encoder is the same in this process and in worker processes: records go in, a chunk of arrays
comes out, and no state is kept between two chunks.
"""

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from xft.data.encoding.encoded import (
    OVERLONG_REASON,
    EncodedChunk,
    EncodedRow,
    EncodingOptions,
    FatalRowError,
    TooLong,
)
from xft.data.formats.content_parts import MEDIA_KEYS, media_error
from xft.data.formats.tracked_row import ColumnUsage, TrackedRow
from xft.data.sources import Record, RowLocation, parse
from xft.data.store.token_store import ROW, SAMPLE, FileName, digest, to_tokens
from xft.errors import DataError, XftError, list_names
from xft.registry import callable_name
from xft.templates import BoundTemplate
from xft.types import Row, Tokenizer

Value = TypeVar("Value")


class RowEncoder(ABC, Generic[Value]):
    """Encodes rows of one kind.

    Args:
        options: keys of the dataset config.
        tokenizer: of the model.
        template: chat template; ``None`` for raw text.
    """

    def __init__(
        self, options: EncodingOptions, tokenizer: Tokenizer, template: BoundTemplate | None
    ) -> None:
        self.options, self.tokenizer, self.template = options, tokenizer, template
        words = sorted(set(tokenizer.all_special_tokens), key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, words))) if words else None
        lost = "".join(character for character in _CONTROL_CHARS if not _roundtrips(character, tokenizer))
        self._lost = re.compile(f"[{re.escape(lost)}]") if lost else None
        self._unknown = (tokenizer.unk_token, tokenizer.unk_token_id)

    @abstractmethod
    def validate(self, value: object, row: Row) -> Value:
        """Check the value that the format returned for a row.

        Raises:
            DataError: the value is not of this kind.
        """

    @abstractmethod
    def dedup_text(self, value: Value) -> Iterable[str]:
        """Yield all text of a row, for its digest."""

    @abstractmethod
    def encode(self, values: Sequence[Value]) -> list[EncodedRow | DataError | TooLong]:
        """Encode values in one batch."""

    def check_columns(self, row: TrackedRow) -> None:
        """Check that the format has not left out an image, a video or audio.

        Raises:
            DataError: a column holds one, and the format has not read it.
        """
        for name in MEDIA_KEYS:
            if dict.get(row, name) and name not in row.read:
                raise media_error(name, dict.get(row, name))

    def scores_contradict(self, value: Value) -> bool:
        """Whether the scores of a pair rank the rejected answer higher."""
        return False

    def __call__(self, records: Sequence[Record]) -> EncodedChunk:
        """Encode some records.

        Raises:
            DataError: a row does not fit, and ``on_invalid`` is ``error``.
        """
        builder = _ChunkBuilder(self, len(records))
        rows: list[tuple[RowLocation, Row]] = []
        values: list[Value] = []
        for origin, raw in records:
            try:
                row = parse(origin, raw)
            except DataError as error:
                # The message of a parse error starts with its location.
                builder.reject(origin, raw, error, located=True)
                continue
            tracked = TrackedRow(row)
            try:
                value = self.validate(self.apply_format(tracked), tracked)
            except DataError as error:
                builder.reject(origin, row, error)
                continue
            builder.usage.add(tracked)
            values.append(value)
            rows.append((origin, row))
        for (origin, row), value, result in zip(rows, values, self.encode(values), strict=True):
            try:
                builder.add(origin, row, value, result)
            except FatalRowError:
                raise
            except DataError as error:
                builder.reject(origin, row, error)
        return builder.chunk()

    def apply_format(self, row: Row) -> Any:
        """Return the value that the format makes of a row.

        Raises:
            DataError: the row does not fit, holds an image that the format leaves out, or the format raises an error.
        """
        tracked = row if isinstance(row, TrackedRow) else TrackedRow(row)
        try:
            value = self.options.format(tracked)
            self.check_columns(tracked)
            return value
        except XftError:
            raise
        except Exception as error:
            # A user's format may raise anything: the row is at fault, not the program.
            function = self.options.format
            name = callable_name(function.func if isinstance(function, partial) else function).rpartition(
                "."
            )[2]
            raise DataError(
                f"the format {name!r} raises {type(error).__name__}: {error} (the row has "
                f"{list_names(row) or 'no columns'})"
            ) from error

    def group(self, row: Row, content: int) -> int:
        """Digest of the group that stays in one split; by default of the row's own content.

        Raises:
            DataError: the row lacks the column.
        """
        if self.options.group_by is None:
            return content
        if row.get(self.options.group_by) is None:
            raise DataError(
                f"field {self.options.group_by}: is missing; expected the column of data.group_by in every row",
                key="data.group_by",
                got=self.options.group_by,
            )
        return digest(json.dumps(row[self.options.group_by], sort_keys=True, default=str).encode())

    def has_specials(self, texts: Iterable[str]) -> bool:
        """Whether a text spells a special token."""
        return self._specials is not None and any(self._specials.search(text) for text in texts)

    def has_unknown(self, text: str, ids: Iterable[npt.NDArray[Any]]) -> bool:
        """Whether the tokenizer has no token for a character of a text.

        Either it drops the character, or the unknown token is among the ids more often than the text
        spells it (a template may write that token).
        """
        if self._lost is not None and self._lost.search(text):
            return True
        token, token_id = self._unknown
        if not token:
            return False
        count = sum(int((piece == token_id).sum()) for piece in ids)
        return count > 0 and count > text.count(token)


_CONTROL_CHARS = [chr(code) for code in (*range(32), 127)]
"""Control characters. Byte-level vocabularies may lack them: training text has none."""


def _roundtrips(character: str, tokenizer: Tokenizer) -> bool:
    ids = tokenizer(f"a{character}a", add_special_tokens=False)["input_ids"]
    return character in str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


class _ChunkBuilder:
    """Collects the results of the rows of one chunk."""

    def __init__(self, encoder: RowEncoder[Any], read: int) -> None:
        self.encoder, self.options = encoder, encoder.options
        self.counts = Counter(rows_read=read)
        self.files: dict[FileName, int] = {}
        self.rows: list[tuple[int, ...]] = []
        self.samples: list[tuple[int, int, int]] = []
        self.tokens: list[bytes] = []
        self.dropped: Counter[str] = Counter()
        self.quarantined: list[dict[str, Any]] = []
        self.too_long: list[int] = []
        self.usage = ColumnUsage()
        if self.options.group_by is not None:
            self.usage.read.add(self.options.group_by)

    def reject(self, origin: RowLocation, raw: object, error: DataError, located: bool = False) -> None:
        """Quarantine a row that does not fit, or raise its error, as the config says."""
        if self.options.on_invalid == "error":
            where = "" if located else f"{origin}: "
            raise DataError(
                f"{where}{error} (data.on_invalid='quarantine' skips such rows and keeps a copy)",
                key=error.key,
                got=error.got,
                expected=error.expected,
                fix=error.fix,
            ) from error
        self.dropped[error.reason] += 1
        kept = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
        self.quarantined.append(
            {
                "file": origin.file,
                origin.number_key: origin.line,
                "reason": str(error),
                "row": None if isinstance(kept, DataError) else kept,
            }
        )

    def add(
        self, origin: RowLocation, row: Row, value: object, result: EncodedRow | DataError | TooLong
    ) -> None:
        """Add an encoded row, or count why it is dropped."""
        if isinstance(result, DataError):
            raise result
        if isinstance(result, TooLong):
            if self.options.on_overlong == "error":
                raise FatalRowError(
                    f"{origin}: got {result.args[0]} tokens; expected at most data.max_length="
                    f"{self.options.max_length}. Raise it, or set data.on_overlong to 'drop' or 'truncate'",
                    key="data.max_length",
                    got=result.args[0],
                )
            self.dropped[OVERLONG_REASON] += 1
            self.too_long.append(result.args[0])
            return
        texts = list(self.encoder.dedup_text(value))
        content = digest(*[text.encode("utf-8", "surrogatepass") for text in texts])
        group = self.encoder.group(row, content)
        pieces = [to_tokens(sample).tobytes() for sample in result.samples]
        file = self.files.setdefault((origin.file, origin.unit_name), len(self.files))
        self.rows.append((file, origin.line, len(pieces), result.length, content, group, digest(*pieces)))
        for sample in result.samples:
            label = -1 if sample.desirable is None else int(sample.desirable)
            self.samples.append((len(sample), sample.num_targets, label))
        self.tokens += pieces
        self.counts["rows_truncated"] += result.truncated
        self.counts["rows_with_special_tokens"] += self.encoder.has_specials(texts)
        self.counts["rows_with_unknown_characters"] += result.has_unknown
        self.counts["rows_chosen_scored_lower"] += self.encoder.scores_contradict(value)

    def chunk(self) -> EncodedChunk:
        """Return the collected rows as arrays."""
        return EncodedChunk(
            np.array(self.rows, dtype=ROW),
            np.array(self.samples, dtype=SAMPLE),
            b"".join(self.tokens),
            list(self.files),
            self.counts,
            self.dropped,
            self.too_long,
            self.quarantined,
            self.usage,
        )
