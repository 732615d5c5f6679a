"""Read a JSON file with one list of objects, object by object.

Written by hand. Tried: ``ijson`` stops at ``NaN``, reports neither line nor column of an error, and keeps the last
of two equal keys without notice; ``pyarrow.json`` reads JSON lines only and infers one schema. Here an invalid object
is one invalid record, and broken JSON has the line and column of the ``json`` module.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xft.data.sources.decompress import BOM, Progress, Stream
from xft.data.sources.location import (
    MAX_ROW_BYTES,
    Raw,
    Record,
    RowLocation,
    abbreviate,
    source_error,
    too_large,
    undecodable,
)
from xft.data.sources.parse import DECODER, InvalidJSON, check, located, too_deep, too_many_digits
from xft.errors import DataError

_PIECE = 1 << 18
"""Bytes per read, unless a single object needs more."""
_NEAR_END = 16
"""An error so near to the end of a piece may be that of a word or an escape cut in two."""
_SPACE = re.compile(r"[ \t\n\r]*")
_ESCAPED = re.compile("[\udc80-\udcff]")
"""What ``surrogateescape`` makes of bytes that are not UTF-8; UTF-8 itself holds no such thing."""


def _nothing(_: object) -> None:
    return None


_SKIPPER = json.JSONDecoder(
    object_pairs_hook=_nothing, parse_float=_nothing, parse_int=_nothing, parse_constant=_nothing
)
"""Finds the end of a value that is not taken."""


def read_json(file: Path, progress: Progress) -> Iterator[Record]:
    """The objects of a list. An object that is not taken is an error of its own.

    Raises:
        DataError: the file holds no list, or its JSON is broken, behind which nothing can be read.
    """
    with Stream(file, progress) as stream:
        text = _Text(stream)
        first = text.skip()
        if not first:
            return
        if first != "[":
            raise _no_list(text)
        text.at += 1
        number = 0
        follows = "," if text.skip() != "]" else text.step()
        while follows == ",":
            number += 1
            text.skip()
            location = RowLocation(stream.name, number, "row")
            yield location, _element(text, location)
            text.skip()
            follows = text.step()
        if follows != "]":
            raise text.broken("Expecting ',' delimiter", text.at - len(follows))
        if text.skip():
            raise text.broken("Extra data", text.at)


class _Text:
    """The text of a stream, decoded piece by piece; what was read is let go.

    Attributes:
        text: the piece at hand.
        at: where reading stands in it.
        ended: whether nothing follows the piece.
        longest: characters that a value may have.
    """

    def __init__(self, stream: Stream) -> None:
        self.name = stream.name
        self._reader = stream.reader
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._lines = self._columns = 0
        self.ended = False
        self.longest = MAX_ROW_BYTES
        self.at = 0
        self.text = self._decoder.decode(self._reader.read(len(BOM)).removeprefix(BOM))

    def more(self) -> None:
        """Read on: at least as much again as is at hand and not read yet."""
        read, rest = self.text[: self.at], self.text[self.at :]
        if "\n" in read:
            self._columns = 0
        self._lines += read.count("\n")
        self._columns += len(read) - read.rfind("\n") - 1
        piece = self._reader.read(max(_PIECE, len(rest)))
        self.ended = not piece
        self.text = rest + self._decoder.decode(piece, self.ended)
        self.at = 0

    def skip(self) -> str:
        """Go to the next character that is no white space, and give it; at the end, nothing."""
        while True:
            match = _SPACE.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def step(self) -> str:
        """Read one character; at the end, nothing."""
        character = self.text[self.at : self.at + 1]
        self.at += len(character)
        return character

    def decode(self, decoder: json.JSONDecoder) -> tuple[Any, str]:
        """Read a value.

        Returns:
            The value, and its text.

        Raises:
            InvalidJSON: the decoder refuses it; reading stands before it still.
            DataError: it is broken.
        """
        while True:
            try:
                value, end = decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                open_string = error.msg.startswith("Unterminated string")
                if self.ended or not (open_string or error.pos >= len(self.text) - _NEAR_END):
                    raise self.broken(error.msg, error.pos) from error
            except RecursionError as error:
                raise self.broken(str(too_deep()), self.at) from error
            except ValueError as error:
                raise too_many_digits() from error
            else:
                if end < len(self.text) or self.ended:
                    begin, self.at = self.at, end
                    return value, self.text[begin:end]
            if len(self.text) - self.at > self.longest:
                raise self.broken(
                    f"a value of more than {self.longest:,} characters, the limit of a row", self.at
                )
            self.more()

    def broken(self, reason: str, position: int) -> DataError:
        """The error of a file that cannot be read on, ``position`` characters into the piece."""
        before = self.text[:position]
        line = self._lines + before.count("\n") + 1
        column = position - before.rfind("\n") + (0 if "\n" in before else self._columns)
        if _ESCAPED.match(self.text, position):
            reason = "bytes that are not UTF-8"
        elif position < len(self.text) and self.text[position] == "\0":
            reason = "NUL bytes"
        cut_off = self.ended and (position >= len(self.text) or reason.startswith("Unterminated string"))
        hint = "; the file ends before its list does: it may have been cut off" if cut_off else ""
        return source_error(f"{self.name}:{line}", f"broken JSON at column {column} ({reason}){hint}")


def _element(text: _Text, location: RowLocation) -> Raw:
    try:
        value, written = text.decode(DECODER)
    except InvalidJSON as error:
        text.decode(_SKIPPER)
        return located(location, error)
    if len(written) > MAX_ROW_BYTES:
        return too_large(location)
    if not written.isascii() and _ESCAPED.search(written):
        try:
            written.encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeDecodeError as error:
            return undecodable(location, error)
    try:
        return check(value, written.count("{") + written.count("["))
    except InvalidJSON as error:
        return located(location, error)


def _no_list(text: _Text) -> DataError:
    """The error of a file that does not begin with a list."""
    text.longest = 1 << 26
    try:
        value, _ = text.decode(DECODER)
    except InvalidJSON as error:
        return source_error(text.name, str(error), "a list of objects")
    except DataError as error:
        return error
    if text.skip():
        broken = text.broken("Extra data", text.at)
        fix = "it looks like JSON lines: name it .jsonl"
        return DataError(f"{broken}; {fix}", key=text.name, got=broken.got, fix=fix)
    held = (
        [name for name, item in value.items() if isinstance(item, list)] if isinstance(value, dict) else []
    )
    fix = f"write the list of its field {abbreviate(held[0])} to a separate file" if len(held) == 1 else ""
    return source_error(text.name, f"got a JSON {type(value).__name__}", "a list of objects", fix)
