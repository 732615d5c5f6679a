"""Images of a token store: sizes, and paths or contents of files, but no pixels.

``images.npy`` has a record for each image, in the order of the samples. ``images.bin`` holds the path of a file, or the
contents of an image that the row itself contains.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xft.types import Image

IMAGE = np.dtype(
    [
        ("begin", "u8"),  # offset in images.bin
        ("size", "u8"),  # bytes there
        ("is_file", "?"),  # whether they are the path of a file
        ("height", "i4"),
        ("width", "i4"),
        ("digest", "u8"),  # of the contents
        ("modified", "i8"),  # modification time of the file in nanoseconds
    ]
)


class ImageTable:
    """Collect the records of images, and their paths or contents."""

    def __init__(self) -> None:
        self._records: list[tuple[int, int, bool, int, int, int, int]] = []
        self._data = bytearray()

    def add(self, image: Image) -> None:
        """Add an image whose header was read."""
        data = image.path.encode("utf-8", "surrogateescape") if image.path else image.data
        record = (len(self._data), len(data), bool(image.path), *image.size, image.digest, image.modified)
        self._records.append(record)
        self._data += data

    def arrays(self) -> tuple[npt.NDArray[Any], bytes]:
        """Return the records, and the bytes that they refer to."""
        return np.array(self._records, dtype=IMAGE), bytes(self._data)


class ImageStoreWriter:
    """Write the images of a store into its folder, chunk by chunk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: list[npt.NDArray[Any]] = []
        self._size = 0

    def append(self, records: npt.NDArray[Any], data: bytes) -> None:
        """Add the result of :meth:`ImageTable.arrays`."""
        if not len(records):
            return
        records["begin"] += np.uint64(self._size)
        self._records.append(records)
        self._size += len(data)
        with (self._folder / "images.bin").open("ab") as file:
            file.write(data)

    def close(self) -> None:
        """Write the records, if there are any."""
        if self._records:
            np.save(self._folder / "images.npy", np.concatenate(self._records))


class ImageStore:
    """Read the images of a store.

    Args:
        folder: folder of the store.
        counts: ``(samples,)`` number of images of each sample.

    Raises:
        ValueError: the files are missing or inconsistent.
        OSError: a file cannot be read.
    """

    def __init__(self, folder: Path, counts: npt.NDArray[np.int32]) -> None:
        self.records: npt.NDArray[Any] = np.empty(0, IMAGE)
        if counts.any():
            self.records = np.load(folder / "images.npy")
            self._data = np.memmap(folder / "images.bin", dtype=np.uint8, mode="r")
            if counts.sum() != len(self.records) or self.records["size"].sum() != len(self._data):
                raise ValueError(f"{len(self.records)} images for {counts.sum()}")
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.records)

    def sizes_of_sample(self, index: int) -> list[tuple[int, int]]:
        """Return height and width of the images of a sample."""
        if not len(self.records):
            return []
        begin, end = self._first[index : index + 2]
        records = self.records[int(begin) : int(end)]
        return list(zip(records["height"].tolist(), records["width"].tolist(), strict=True))

    def of_sample(self, index: int) -> tuple[Image, ...]:
        """Return the images of a sample."""
        if not len(self.records):
            return ()
        begin, end = self._first[index : index + 2]
        return tuple([self._read(number) for number in range(int(begin), int(end))])

    def _read(self, number: int) -> Image:
        record = self.records[number]
        begin = int(record["begin"])
        data = self._data[begin : begin + int(record["size"])].tobytes()
        path = data.decode("utf-8", "surrogateescape") if record["is_file"] else ""
        return Image(
            path,
            b"" if path else data,
            "",
            int(record["height"]),
            int(record["width"]),
            int(record["digest"]),
            int(record["modified"]),
        )

    def changed_file(self) -> str | None:
        """Return the path of a file that was changed or removed since it was read; ``None`` if there is none."""
        checked: set[str] = set()
        for number in np.flatnonzero(self.records["is_file"]):
            image = self._read(int(number))
            if image.path in checked:
                continue
            checked.add(image.path)
            try:
                if Path(image.path).stat().st_mtime_ns != image.modified:
                    return image.path
            except OSError:
                return image.path
        return None
