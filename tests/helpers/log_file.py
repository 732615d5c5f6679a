"""Files of W&B and SwanLab: records in the log format of LevelDB."""

from collections.abc import Iterator
from pathlib import Path

BLOCK, HEADER, WHOLE, LAST = 32768, 7, 1, 4


def log_records(file: Path) -> Iterator[bytes]:
    """The records of a file; seven bytes of the library's own stand before them.

    A record is cut where a block ends. Each part has four bytes of a checksum, two of its length and one that
    says which part it is (https://github.com/google/leveldb/blob/main/doc/log_format.md).
    """
    content, place, record = file.read_bytes(), HEADER, b""
    while place < len(content):
        if (rest := BLOCK - place % BLOCK) < HEADER:
            place += rest
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        place += HEADER + length
        if place > len(content):  # it is being written
            return
        record += content[place - length : place]
        if kind in (WHOLE, LAST):
            yield record
            record = b""
