"""Iterate over the records of a location, file by file."""

import random
from collections.abc import Iterator
from pathlib import Path

from xft.data.sources.decompress import Progress
from xft.data.sources.file_types import READERS, file_type
from xft.data.sources.hub import read_hub
from xft.data.sources.location import Record, RowLocation, source_error
from xft.data.sources.resolve import DataSource


class RecordReader:
    """Iterates over records. Memory does not grow with the size of the data.

    A location with a number of rows (``#500``) is read to its end, and gives that many of its
    records, drawn evenly, in their order; all of them where it has no more.

    Args:
        location: what is read.
        split: the split to take of a hub data set; files have none.
        seed: chooses the rows of ``#500``.
        streaming: read a hub data set from the network row by row. Files are always read so.

    Attributes:
        available: records met so far, before any are chosen.
    """

    def __init__(
        self, source: DataSource, split: str = "train", seed: int = 0, streaming: bool = False
    ) -> None:
        self.source = source
        self.split = split
        self.seed = seed
        self.streaming = streaming
        self.available = 0
        self._done = 0
        self._progress = Progress()

    @property
    def bytes_read(self) -> int:
        """Bytes read so far, of ``location.size``."""
        return self._done + self._progress.position()

    def __iter__(self) -> Iterator[Record]:
        """Read from the beginning.

        Raises:
            DataError: a file cannot be read, or not beyond some place. A single row that cannot is
                a record like others.
        """
        self.available = self._done = 0
        if self.source.rows is None:
            return self._records()
        return self._chosen(self.source.rows)

    def _chosen(self, count: int) -> Iterator[Record]:
        """Reservoir sampling (Vitter 1985, algorithm R): all records have the same probability."""
        # Of Python's generator, `random` alone is promised to stay the same between versions.
        draw = random.Random(self.seed).random
        kept: list[tuple[int, Record]] = []
        for index, record in enumerate(self._records()):
            if index < count:
                kept.append((index, record))
            elif (place := int(draw() * (index + 1))) < count:
                kept[place] = index, record
        for _, record in sorted(kept, key=lambda pair: pair[0]):
            yield record

    def _records(self) -> Iterator[Record]:
        if self.source.hub is not None:
            for record in read_hub(self.source.hub, self.split, self.streaming):
                self.available += 1
                yield record
        for file in self.source.files:
            yield from self._of_file(file)

    def _of_file(self, file: Path) -> Iterator[Record]:
        kind = file_type(file)
        assert kind is not None, file
        self._progress = Progress()
        last: RowLocation | None = None
        try:
            for record in READERS[kind](file, self._progress):
                self.available += 1
                last = record[0]
                yield record
            size = file.stat().st_size
        except OSError as error:
            # What is packed says of a damage in the middle that it cannot be unpacked.
            problem = "cannot be read" if last is None else "nothing can be read behind it"
            reason = " ".join(str(error.strerror or error).split())
            raise source_error(last or file, f"{problem} ({reason})") from error
        self._progress = Progress()
        self._done += size
