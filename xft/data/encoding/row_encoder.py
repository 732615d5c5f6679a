"""Encode rows: map each to a value, validate it, tokenize it, and truncate or drop it if it is overlong.

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
    OverlongRow,
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
        tokenizer: tokenizer of the model.
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
            DataError: the value is of another kind, or invalid.
        """

    @abstractmethod
    def messages(self, value: Value) -> Iterable[Message]:
        """Return all messages of a value."""

    def inspect_images(self, value: Value, folder: Path) -> tuple[Value, Counter[str]]:
        """Inspect the images of a value.

        Args:
            value: result of ``validate``.
            folder: folder of relative paths.

        Returns:
            The value, whose images have a size and a digest; and the number of images for each conversion, by its name in
            the data report.

        Raises:
            DataError: an image cannot be used, or the model or this kind of data does not support images.
        """
        for message in self.messages(value):
            if message.images:
                image = message.images[0]
                raise media_error(image.field, image.path or image.data[:16])
        return value, Counter()

    @abstractmethod
    def dedup_text(self, value: Value) -> Iterable[str]:
        """Return the texts that identify a row: rows with equal texts are duplicates."""

    @abstractmethod
    def encode(self, values: Sequence[Value]) -> list[EncodedRow | DataError | OverlongRow]:
        """Encode values in one batch; return for each the encoded row, or why it has none."""

    def check_columns(self, row: TrackedRow) -> None:
        """Check that the format did not ignore an image, a video or audio.

        Raises:
            DataError: a column holds one, and the format did not read it.
        """
        check_media_columns(row)

    def scores_contradict(self, value: Value) -> bool:
        """Whether the scores of a pair rank the rejected answer higher."""
        return False

    def __call__(self, records: Sequence[Record]) -> EncodedChunk:
        """Encode some records.

        Raises:
            DataError: a row is invalid, and ``on_invalid`` is ``error``.
            FatalRowError: a row is overlong, and ``on_overlong`` is ``error``.
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
            DataError: the row is invalid, has an image that the format ignores, or the format raises an error.
        """
        tracked = row if isinstance(row, TrackedRow) else TrackedRow(row)
        value = apply_format(self.options.format, tracked)
        self.check_columns(tracked)
        return value

    def group(self, row: Row, content: int) -> int:
        """Return the digest of the group of a row, by default that of its content. A group is put into one split.

        Raises:
            DataError: the row has no column ``group_by``.
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
        """Quarantine an invalid row, or raise its error if ``on_invalid`` is ``error``."""
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
        self, origin: RowLocation, row: Row, value: object, result: EncodedRow | DataError | OverlongRow
    ) -> None:
        """Add an encoded row, or count an overlong one as dropped.

        Raises:
            DataError: the result is an error, or the row has no column ``group_by``.
            FatalRowError: the row is overlong, and ``on_overlong`` is ``error``.
        """
        if isinstance(result, DataError):
            raise result
        if isinstance(result, OverlongRow):
            if self.options.on_overlong == "error":
                raise FatalRowError(
                    f"{origin}: got {result.num_tokens} tokens; expected at most data.max_length="
                    f"{self.options.max_length}. Raise it, or set data.on_overlong to 'drop' or 'truncate'",
                    key="data.max_length",
                    got=result.num_tokens,
                )
            self.dropped[OVERLONG_REASON] += 1
            self.too_long.append(result.num_tokens)
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
