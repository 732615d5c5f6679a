"""Files that are read line by line: JSON lines, and text."""

from collections.abc import Iterator
from pathlib import Path

from xft.data.sources.decompress import Progress, Stream, blank
from xft.data.sources.location import (
    MAX_ROW_BYTES,
    Record,
    RowLocation,
    damaged_text,
    too_large,
    undecodable,
)


def read_json_lines(file: Path, progress: Progress) -> Iterator[Record]:
    """JSON lines: every line that is not blank, not parsed yet."""
    with Stream(file, progress) as stream:
        name = stream.name
        for number, line in enumerate(stream.lines(), 1):
            if len(line) > MAX_ROW_BYTES:
                yield RowLocation(name, number), too_large(RowLocation(name, number))
            elif not blank(line):
                yield RowLocation(name, number), line


def read_text(file: Path, progress: Progress) -> Iterator[Record]:
    """Text: documents are parted by blank lines; in a file that has none, each line is one.

    A document keeps its lines as they are, but for carriage returns at their ends. Its row is
    ``{"text": ...}``.
    """
    by_line = not _has_paragraphs(file)
    with Stream(file, progress) as stream:
        begun, size, document = 0, 0, list[bytes]()
        for number, line in enumerate(stream.lines(), 1):
            if not blank(line):
                begun = begun or number
                size += len(line)
                if size <= MAX_ROW_BYTES:
                    document.append(line.removesuffix(b"\n").removesuffix(b"\r"))
            if begun and (by_line or blank(line)):
                yield _document(RowLocation(stream.name, begun), document, size)
                begun, size, document = 0, 0, []
        if begun:
            yield _document(RowLocation(stream.name, begun), document, size)


def _document(location: RowLocation, lines: list[bytes], size: int) -> Record:
    if size > MAX_ROW_BYTES:
        return location, too_large(location, "separate documents by empty lines")
    whole = b"\n".join(lines)
    try:
        text = whole.decode("utf-8")
    except UnicodeDecodeError as error:
        return location, undecodable(location, error)
    if "\0" in text:
        return location, damaged_text(location)
    return location, {"text": text}


def _has_paragraphs(file: Path) -> bool:
    """Whether a blank line stands between two that are not. Reads no further than that."""
    text = gap = False
    with Stream(file, Progress()) as stream:
        for line in stream.lines():
            if blank(line):
                gap = text
            elif gap:
                return True
            else:
                text = True
    return False
