"""The store: encoded samples on disk, read through a memory map.

A store is a folder of flat files. ``tokens.bin`` holds all tokens of all samples behind one
another, four bytes each: the low 31 bits are the id, the high bit says whether it is trained. A
store of ten billion tokens so takes 40 GB of disk and, being mapped, next to no memory.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from xft.data.sources import Origin
from xft.errors import DataError
from xft.types import IGNORE_INDEX, Sample

TARGET_BIT = np.uint32(1 << 31)
_ID = np.uint32((1 << 31) - 1)
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
FileName = tuple[str, str]
"""A file, and what its rows are counted in: ``line`` or ``row``."""

ROW = np.dtype(
    [
        ("file", "i4"),  # index into the names of the files
        ("line", "i8"),
        ("samples", "i4"),  # how many samples the row became
        ("length", "i4"),  # tokens before anything was cut
        ("content", "u8"),  # digest of what the row says
        ("group", "u8"),  # digest of the key that keeps rows together
        ("tokens", "u8"),  # digest of ids and labels
    ]
)
SAMPLE = np.dtype([("length", "i4"), ("targets", "i4"), ("desirable", "i1")])


def digest(*parts: bytes) -> int:
    """A 64-bit digest of some bytes, the same on every machine."""
    found = blake2b(digest_size=8)
    for each in parts:
        found.update(len(each).to_bytes(8, "little"))
        found.update(each)
    return int.from_bytes(found.digest(), "little")


def to_tokens(sample: Sample) -> npt.NDArray[np.uint32]:
    """Ids and labels of a sample in the store's form, ``(length,)``."""
    trained = sample.labels != IGNORE_INDEX
    return sample.input_ids.astype(np.uint32) | (trained.astype(np.uint32) << np.uint32(31))


def to_sample(tokens: npt.NDArray[np.uint32], desirable: bool | None = None) -> Sample:
    """A sample out of the store's form."""
    ids = (tokens & _ID).astype(np.int32)
    labels = np.where(tokens & TARGET_BIT, ids, np.int32(IGNORE_INDEX))
    return Sample(ids, labels.astype(np.int32), desirable=desirable)


@dataclass
class StoreWriter:
    """Writes a store into a folder, chunk by chunk.

    Attributes:
        folder: an empty folder.
        files: the names that ``file`` of a row is an index into.
    """

    folder: Path
    files: list[FileName] = field(default_factory=list)
    _rows: list[npt.NDArray[Any]] = field(default_factory=list)
    _samples: list[npt.NDArray[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tokens = (self.folder / "tokens.bin").open("wb")

    def append(
        self, rows: npt.NDArray[Any], samples: npt.NDArray[Any], tokens: bytes, files: Sequence[FileName]
    ) -> None:
        """Add rows, the samples that they became, and the tokens of those.

        Args:
            rows: ``(rows,)`` of ``ROW``, ``file`` being an index into ``files``.
            samples: ``(sum of rows["samples"],)`` of ``SAMPLE``.
            tokens: as many as the samples are long, in the store's form.
            files: the files of these rows.
        """
        for each in files:
            if each not in self.files:
                self.files.append(each)
        if len(rows):
            places = np.asarray([self.files.index(each) for each in files], dtype=np.int32)
            rows["file"] = places[rows["file"]]
        self._rows.append(rows)
        self._samples.append(samples)
        self._tokens.write(tokens)

    def close(self, stats: dict[str, Any], too_long: Sequence[int] = ()) -> None:
        """Write what is left, and the books of the preparation.

        Args:
            books: what was counted.
            too_long: lengths in tokens of the rows that were dropped for it.
        """
        self._tokens.close()
        np.save(self.folder / "too_long.npy", np.array(too_long, dtype=np.int32))
        self.write_stats(stats)
        np.save(self.folder / "rows.npy", np.concatenate([np.empty(0, ROW), *self._rows]))
        np.save(self.folder / "samples.npy", np.concatenate([np.empty(0, SAMPLE), *self._samples]))

    def write_stats(self, stats: dict[str, Any]) -> None:
        """Write the books of the preparation."""
        text = json.dumps({"files": self.files, **stats}, indent=1)
        (self.folder / "stats.json").write_text(text, encoding="utf-8")


class CorruptStoreError(DataError):
    """Files of a store are missing, or do not fit each other."""


class TokenStore:
    """Reads a store.

    Raises:
        DamagedStore: when it is opened.

    Attributes:
        folder: where it is.
        rows: ``(rows,)`` of ``ROW``.
        samples: ``(samples,)`` of ``SAMPLE``.
        begins: ``(samples + 1,)``, where the tokens of each sample begin.
        first: ``(rows + 1,)``, the first sample of each row.
        books: what the preparation counted.
        too_long: lengths in tokens of the rows that were dropped for it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.rows = np.load(folder / "rows.npy")
            self.samples = np.load(folder / "samples.npy")
            self.too_long = np.load(folder / "too_long.npy")
            self.stats: dict[str, Any] = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
            size = (folder / "tokens.bin").stat().st_size
        except (OSError, ValueError, EOFError) as error:
            raise CorruptStoreError(str(error)) from error
        if self.rows["samples"].sum() != len(self.samples):
            raise CorruptStoreError(f"{len(self.samples)} samples for {self.rows['samples'].sum()}")
        if size != 4 * self.samples["length"].sum(dtype=np.int64):
            raise CorruptStoreError(f"{size} bytes for {self.samples['length'].sum(dtype=np.int64)} tokens")
        self.begins = np.concatenate([[0], np.cumsum(self.samples["length"], dtype=np.int64)])
        self.first = np.concatenate([[0], np.cumsum(self.rows["samples"], dtype=np.int64)])
        # An empty file cannot be mapped.
        self.tokens: npt.NDArray[np.uint32] = (
            np.memmap(folder / "tokens.bin", dtype=np.uint32, mode="r")
            if len(self.samples)
            else np.empty(0, np.uint32)
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        mark = int(self.samples["desirable"][index])
        begin, end = self.begins[index : index + 2]
        return to_sample(np.asarray(self.tokens[begin:end]), None if mark < 0 else bool(mark))

    def origin(self, row: int) -> str:
        """Where a row came from, for a person."""
        name, unit = self.stats["files"][self.rows["file"][row]]
        return str(Origin(name, int(self.rows["line"][row]), unit))

    def samples_of(self, rows: I64) -> I64:
        """The samples of some rows, in their order."""
        counts = self.rows["samples"][rows].astype(np.int64)
        if len(counts) and counts.max() == counts.min() == 1:
            return self.first[rows]
        begins = np.repeat(self.first[rows], counts)
        steps = np.arange(len(begins)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.asarray(begins + steps, dtype=np.int64)


class SampleView(Sequence[Sample]):
    """Samples of one or several stores, in a given order. None is read before it is asked for.

    Attributes:
        parts: stores, and which rows of each stand here, one part behind the other.
    """

    def __init__(self, parts: Sequence[tuple[TokenStore, I64]]) -> None:
        self.parts = [(store, np.asarray(rows, dtype=np.int64)) for store, rows in parts]
        self._indices = [store.samples_of(rows) for store, rows in self.parts]
        self._ends = np.cumsum([len(each) for each in self._indices], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        store, sample = self._find(index)
        return store[sample]

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]

    def _find(self, index: int) -> tuple[TokenStore, int]:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._ends, index, side="right"))
        begin = int(self._ends[part - 1]) if part else 0
        return self.parts[part][0], int(self._indices[part][index - begin])

    def origin(self, index: int) -> str:
        """Where a sample came from, for a person."""
        store, sample = self._find(index)
        return store.origin(int(np.searchsorted(store.first, sample, side="right")) - 1)

    def origin_of_row(self, number: int) -> str:
        """Where the row of that number came from, for a person."""
        for store, rows in self.parts:
            if number < len(rows):
                return store.origin(int(rows[number]))
            number -= len(rows)
        raise IndexError(number)

    def _gather(self, field: str) -> I32:
        pieces = [
            store.samples[field][index] for (store, _), index in zip(self.parts, self._indices, strict=True)
        ]
        return np.concatenate([np.empty(0, np.int32), *pieces]).astype(np.int32)

    @property
    def lengths(self) -> I32:
        """``(samples,)`` tokens of each sample."""
        return self._gather("length")

    @property
    def targets(self) -> I32:
        """``(samples,)`` trained tokens of each sample."""
        return self._gather("targets")

    @property
    def digests(self) -> U64:
        """``(rows,)`` a digest of the ids and labels of each row."""
        pieces = [store.rows["tokens"][rows] for store, rows in self.parts]
        return np.concatenate([np.empty(0, np.uint64), *pieces])

    def fingerprint(self) -> str:
        """A text that changes with what is trained and with its order."""
        return blake2b(self.digests.tobytes(), digest_size=32).hexdigest()
