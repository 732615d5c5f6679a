"""Encode rows: map each to a value, validate it, tokenize it, fit it into the maximum length.

An encoder is the same in this process and in worker processes: records go in, a chunk of arrays
comes out, and no state is kept between two chunks.
"""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from xft.data.encoding.encoded import (
    OVERLONG_REASON,
    EncodedChunk,
    EncodedRow,
    EncodingOptions,
    FatalRowError,
    TooLong,
)
from xft.data.encoding.text_checks import TextChecks, lacks_reasoning
from xft.data.formats.content_parts import check_media_columns, media_error
from xft.data.formats.tracked_row import ColumnUsage, TrackedRow
from xft.data.formats.trial import apply_format
from xft.data.sources import Record, RowLocation, parse
from xft.data.sources.location import QUARANTINE_HINT
from xft.data.store.column_store import to_json
from xft.data.store.image_store import ImageTable
from xft.data.store.token_store import ROW, SAMPLE, FileName, digest, text_digest, to_tokens
from xft.errors import DataError
from xft.templates import BoundTemplate
from xft.types import Image, ImageProcessor, Message, Row, Tokenizer

Value = TypeVar("Value")


class RowEncoder(TextChecks, ABC, Generic[Value]):
    """Encodes rows of one kind.

    Args:
        options: keys of the dataset config.
        tokenizer: of the model.
        template: chat template; ``None`` for raw text.
        processor: image processor of the model; ``None`` for a text model.
    """

    keeps_columns: ClassVar[bool] = False
    """Whether the store keeps all columns of the rows, for the rewards."""

    def __init__(
        self,
        options: EncodingOptions,
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        processor: ImageProcessor | None = None,
    ) -> None:
        super().__init__(tokenizer)
        self.options, self.tokenizer, self.template = options, tokenizer, template
        self.processor = processor

    @abstractmethod
    def validate(self, value: object, row: Row) -> Value:
        """Check the value that the format returned for a row.

        Raises:
            DataError: the value is not of this kind.
        """

    @abstractmethod
    def messages(self, value: Value) -> Iterable[Message]:
        """Return all turns of a value."""

    def inspect_images(self, value: Value, folder: Path) -> tuple[Value, Counter[str]]:
        """Read the headers of the images of a value.

        Args:
            value: result of ``validate``.
            folder: folder of relative paths.

        Returns:
            The value, whose images have sizes; and numbers of images by how their pixels are changed.

        Raises:
            DataError: an image cannot be read, or the model or this kind of data has no images.
        """
        for message in self.messages(value):
            if message.images:
                image = message.images[0]
                raise media_error(image.field, image.path or image.data[:16])
        return value, Counter()

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
        check_media_columns(row)

    def scores_contradict(self, value: Value) -> bool:
        """Whether the scores of a pair rank the rejected answer higher."""
        return False

    def __call__(self, records: Sequence[Record]) -> EncodedChunk:
        """Encode some records.

        Raises:
            DataError: a row does not fit, and ``on_invalid`` is ``error``.
        """
        builder = _ChunkBuilder(self, len(records))
        rows: list[tuple[RowLocation, Row, Counter[str]]] = []
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
                folder = Path(self.options.image_folder or Path(origin.file).parent)
                value, changes = self.inspect_images(value, folder)
            except DataError as error:
                builder.reject(origin, row, error)
                continue
            builder.usage.add(tracked)
            values.append(value)
            rows.append((origin, row, changes))
        for (origin, row, changes), value, result in zip(rows, values, self.encode(values), strict=True):
            try:
                builder.add(origin, row, value, result)
                builder.counts.update(changes)
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
        value = apply_format(self.options.format, tracked)
        self.check_columns(tracked)
        return value

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


class _ChunkBuilder:
    """Collects the results of the rows of one chunk."""

    def __init__(self, encoder: RowEncoder[Any], read: int) -> None:
        self.encoder, self.options = encoder, encoder.options
        self.counts = Counter(rows_read=read)
        self.files: dict[FileName, int] = {}
        self.rows: list[tuple[int, ...]] = []
        self.samples: list[tuple[int, int, int, int]] = []
        self.images = ImageTable()
        self.tokens: list[bytes] = []
        self.columns: list[bytes] = []
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
                f"{where}{error} {QUARANTINE_HINT}",
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
        content = text_digest(texts)
        group = self.encoder.group(row, content)
        pieces = [to_tokens(sample).tobytes() for sample in result.samples]
        file = self.files.setdefault((origin.file, origin.unit_name), len(self.files))
        shown = [image for sample in result.samples for image in sample.images]
        tokens = digest(*pieces, *[image.digest.to_bytes(8, "little") for image in shown])
        self.rows.append((file, origin.line, len(pieces), result.length, content, group, tokens))
        for sample in result.samples:
            label = -1 if sample.desirable is None else int(sample.desirable)
            self.samples.append((len(sample), sample.num_targets, label, len(sample.images)))
        if shown:
            self._add_images(shown, result)
        self.tokens += pieces
        if self.encoder.keeps_columns:
            self.columns.append(to_json(row))
        self.counts["rows_truncated"] += result.truncated
        self.counts["rows_with_special_tokens"] += self.encoder.has_specials(texts)
        self.counts["rows_with_unknown_characters"] += result.has_unknown
        rendered = [sample.text for sample in result.samples]
        self.counts["rows_without_reasoning"] += lacks_reasoning(self.encoder.messages(value), rendered)
        self.counts["rows_chosen_scored_lower"] += self.encoder.scores_contradict(value)

    def _add_images(self, images: Sequence[Image], result: EncodedRow) -> None:
        processor = self.encoder.processor
        assert processor is not None
        for image in images:
            self.images.add(image)
        self.counts["images"] += len(images)
        # Faster than np.isin for a few ids.
        self.counts["image_tokens"] += sum(
            int((sample.input_ids == number).sum())
            for sample in result.samples
            for number in processor.token_ids
        )

    def chunk(self) -> EncodedChunk:
        """Return the collected rows as arrays."""
        return EncodedChunk(
            np.array(self.rows, dtype=ROW),
            np.array(self.samples, dtype=SAMPLE),
            b"".join(self.tokens),
            list(self.files),
            *self.images.arrays(),
            self.counts,
            self.dropped,
            self.too_long,
            self.quarantined,
            self.usage,
            self.columns,
        )
