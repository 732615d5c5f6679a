"""The token store: encoded samples on disk, read through a memory map.

A store is a folder of flat files. ``tokens.bin`` holds the tokens of all samples in sequence, four
bytes each: the low 31 bits are the id, the high bit marks a target. Ten billion tokens take 40 GB of
disk, and almost no memory because the file is mapped.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xft.data.sources import RowLocation
from xft.data.store.column_store import ColumnStore, ColumnStoreWriter
from xft.data.store.image_store import ImageStore, ImageStoreWriter
from xft.errors import DataError
from xft.types import IGNORE_INDEX, Image, Sample

TARGET_BIT = np.uint32(1 << 31)
_ID = np.uint32((1 << 31) - 1)
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
FileName = tuple[str, str]
"""A file, and the unit of its row numbers: ``line`` or ``row``."""

ROW = np.dtype(
    [
        ("file", "i4"),  # index into the names of the files
        ("line", "i8"),
        ("samples", "i4"),  # number of samples of the row
        ("length", "i4"),  # tokens before truncation
        ("content", "u8"),  # digest of the text of the row
        ("group", "u8"),  # digest of the value of group_by
        ("tokens", "u8"),  # digest of ids and labels
    ]
)
SAMPLE = np.dtype([("length", "i4"), ("targets", "i4"), ("desirable", "i1"), ("images", "i4")])


def digest(*parts: bytes) -> int:
    """Return a 64-bit digest of some bytes, the same on every platform."""
    hasher = blake2b(digest_size=8)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return int.from_bytes(hasher.digest(), "little")


def text_digest(texts: Iterable[str]) -> int:
    """Return the digest of the texts of a row, by which rows of different data sets are compared."""
    return digest(*[text.encode("utf-8", "surrogatepass") for text in texts])


def to_tokens(sample: Sample) -> npt.NDArray[np.uint32]:
    """Return ids and target bits of a sample as stored, ``(length,)``."""
    is_target = sample.labels != IGNORE_INDEX
    return sample.input_ids.astype(np.uint32) | (is_target.astype(np.uint32) << np.uint32(31))


def to_sample(
    tokens: npt.NDArray[np.uint32], desirable: bool | None = None, images: tuple[Image, ...] = ()
) -> Sample:
    """Return the sample of stored tokens."""
    ids = (tokens & _ID).astype(np.int32)
    labels = np.where(tokens & TARGET_BIT, ids, np.int32(IGNORE_INDEX))
    return Sample(ids, labels.astype(np.int32), desirable=desirable, images=images)


@dataclass
class StoreWriter:
    """Write a store into a folder, chunk by chunk.

    Attributes:
        folder: an empty folder.
        files: file names that ``file`` of a row indexes.
    """

    folder: Path
    files: list[FileName] = field(default_factory=list)
    _rows: list[npt.NDArray[Any]] = field(default_factory=list)
    _samples: list[npt.NDArray[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tokens = (self.folder / "tokens.bin").open("wb")
        self._images = ImageStoreWriter(self.folder)
        self._columns = ColumnStoreWriter(self.folder)

    def append(
        self,
        rows: npt.NDArray[Any],
        samples: npt.NDArray[Any],
        tokens: bytes,
        files: Sequence[FileName],
        images: npt.NDArray[Any] | None = None,
        image_data: bytes = b"",
        columns: Sequence[bytes] = (),
    ) -> None:
        """Add rows, their samples, and the tokens of these.

        Args:
            rows: ``(rows,)`` of ``ROW``, ``file`` being an index into ``files``.
            samples: ``(sum of rows["samples"],)`` of ``SAMPLE``.
            tokens: tokens of the samples, as stored.
            files: the files of these rows.
            images: ``(sum of samples["images"],)`` of ``IMAGE``; ``None`` if the samples have no images.
            image_data: paths or contents of the images.
            columns: the columns of each row as JSON, if the encoder keeps them.
        """
        for file in files:
            if file not in self.files:
                self.files.append(file)
        if len(rows):
            indices = np.asarray([self.files.index(file) for file in files], dtype=np.int32)
            rows["file"] = indices[rows["file"]]
        self._rows.append(rows)
        self._samples.append(samples)
        self._tokens.write(tokens)
        if images is not None:
            self._images.append(images, image_data)
        self._columns.append(columns)

    def close(self, stats: dict[str, Any], too_long: Sequence[int] = ()) -> None:
        """Write the remaining files.

        Args:
            stats: counts of the preparation.
            too_long: lengths in tokens of the rows dropped for length.
        """
        self._tokens.close()
        self._images.close()
        self._columns.close()
        np.save(self.folder / "too_long.npy", np.array(too_long, dtype=np.int32))
        self.write_stats(stats)
        np.save(self.folder / "rows.npy", np.concatenate([np.empty(0, ROW), *self._rows]))
        np.save(self.folder / "samples.npy", np.concatenate([np.empty(0, SAMPLE), *self._samples]))

    def write_stats(self, stats: dict[str, Any]) -> None:
        """Write the counts of the preparation."""
        text = json.dumps({"files": self.files, **stats}, indent=1)
        (self.folder / "stats.json").write_text(text, encoding="utf-8")


class CorruptStoreError(DataError):
    """Files of a store are missing or inconsistent."""


class TokenStore:
    """Read a store.

    Raises:
        CorruptStoreError: files are missing or inconsistent.

    Attributes:
        folder: folder of the store.
        rows: ``(rows,)`` of ``ROW``.
        samples: ``(samples,)`` of ``SAMPLE``.
        begins: ``(samples + 1,)`` index of the first token of each sample.
        first: ``(rows + 1,)`` index of the first sample of each row.
        stats: counts of the preparation.
        too_long: lengths in tokens of the rows dropped for length.
        images: images of the samples.
        columns: columns of the rows, if the encoder keeps them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.rows = np.load(folder / "rows.npy")
            self.samples = np.load(folder / "samples.npy")
            self.too_long = np.load(folder / "too_long.npy")
            self.stats: dict[str, Any] = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
            size = (folder / "tokens.bin").stat().st_size
            self.images = ImageStore(folder, self.samples["images"])
            self.columns = ColumnStore(folder, len(self.rows))
        except (OSError, ValueError, EOFError) as error:
            raise CorruptStoreError(str(error)) from error
        if self.rows["samples"].sum() != len(self.samples):
            raise CorruptStoreError(f"{len(self.samples)} samples for {self.rows['samples'].sum()}")
        if size != 4 * self.samples["length"].sum(dtype=np.int64):
            raise CorruptStoreError(f"{size} bytes for {self.samples['length'].sum(dtype=np.int64)} tokens")
        self.begins = np.concatenate([[0], np.cumsum(self.samples["length"], dtype=np.int64)])
        self.first = np.concatenate([[0], np.cumsum(self.rows["samples"], dtype=np.int64)])
        # mmap rejects empty files.
        self.tokens: npt.NDArray[np.uint32] = (
            np.memmap(folder / "tokens.bin", dtype=np.uint32, mode="r")
            if len(self.samples)
            else np.empty(0, np.uint32)
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        label = int(self.samples["desirable"][index])
        begin, end = self.begins[index : index + 2]
        desirable = None if label < 0 else bool(label)
        return to_sample(np.asarray(self.tokens[begin:end]), desirable, self.images.of_sample(index))

    def origin(self, row: int) -> str:
        """Return the location of a row, as file and line."""
        name, unit = self.stats["files"][self.rows["file"][row]]
        return str(RowLocation(name, int(self.rows["line"][row]), unit))

    def samples_of(self, rows: I64) -> I64:
        """Return the samples of some rows, in their order."""
        counts = self.rows["samples"][rows].astype(np.int64)
        if len(counts) and counts.max() == counts.min() == 1:
            return self.first[rows]
        begins = np.repeat(self.first[rows], counts)
        steps = np.arange(len(begins)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.asarray(begins + steps, dtype=np.int64)
