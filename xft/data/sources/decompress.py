"""Files as streams of bytes, unpacked where they are compressed."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from xft.data.sources.location import MAX_ROW_BYTES

BOM = b"\xef\xbb\xbf"
CODECS = {".gz": "gzip", ".zst": "zstd"}
"""Endings of compressed files, and what pyarrow calls the codec."""

_BUFFER = 1 << 18


class Progress:
    """How far a reader has come in its file. The reader sets ``position``, others call it.

    Attributes:
        position: gives the bytes read so far, of the file as it lies on the disk.
    """

    def __init__(self) -> None:
        self.position: Callable[[], int] = lambda: 0


class Stream:
    """The bytes of a file, unpacked where its name ends in ``.gz`` or ``.zst``.

    Args:
        file: what is read.
        progress: receives the number of bytes read.

    Raises:
        OSError: the file cannot be opened; while reading, also that its packing is damaged.
    """

    def __init__(self, file: Path, progress: Progress) -> None:
        self.name = str(file)
        self._disk: Any
        if codec := CODECS.get(file.suffix.lower()):
            import pyarrow

            self._disk = pyarrow.OSFile(str(file))
            unpacked = pyarrow.CompressedInputStream(self._disk, codec)
            self.reader = io.BufferedReader(cast(io.RawIOBase, unpacked), _BUFFER)
        else:
            self._disk = file.open("rb", buffering=0)
            self.reader = io.BufferedReader(self._disk, _BUFFER)
        self._last = 0
        progress.position = self.position

    def position(self) -> int:
        """Bytes taken of the file on the disk so far."""
        if not self._disk.closed:
            self._last = self._disk.tell()
        return self._last

    def lines(self) -> Iterator[bytes]:
        """Lines with their line feeds; without the byte order mark before the first.

        Of a line that is longer than ``MAX_ROW_BYTES``, one byte more than that is given, and the rest is skipped.
        """
        read = partial(self.reader.readline, MAX_ROW_BYTES + 1)
        line = read().removeprefix(BOM)
        while line:
            yield line
            while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
                line = read()
            line = read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.position()
        self.reader.close()
        self._disk.close()


def blank(line: bytes) -> bool:
    """Whether a line holds white space alone."""
    return not line or line.isspace()
