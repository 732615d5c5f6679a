"""The place of a row, and what a reader gives."""

import reprlib
from typing import Any, NamedTuple

from xft.errors import DataError
from xft.types import Row

LONGEST_QUOTE = 60
"""How many characters of a user's data an error message quotes."""


class RowLocation(NamedTuple):
    """Where a row came from: a file, and the line or the number of the row in it.

    A row of several lines has the number of its first.
    """

    file: str
    line: int
    unit_name: str = "line"

    @property
    def number_key(self) -> str:
        """What ``line`` counts, as the key of a record: ``line`` or ``number``."""
        return "line" if self.unit_name == "line" else "number"

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}"
            if self.unit_name == "line"
            else f"{self.file}, {self.unit_name} {self.line}"
        )


Raw = bytes | Row | DataError
"""One line of JSON lines, not parsed yet; a row; or why this place cannot be read. In the last
case reading goes on behind it."""

Record = tuple[RowLocation, Raw]

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 30


def abbreviate(value: Any) -> str:
    """``value`` as an error message quotes it: one line, cut where it is long."""
    if isinstance(value, str):
        return repr(truncate(value))
    return truncate(_SHORT.repr(value))


def truncate(text: str) -> str:
    """``text``, cut where it is long."""
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"


def undecodable(location: RowLocation, error: UnicodeDecodeError) -> DataError:
    """The error of a row whose bytes are not UTF-8. Bytes are counted from 0 at its beginning."""
    if error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return DataError(f"{location}: looks like UTF-16; convert the file to UTF-8")
    return DataError(
        f"{location}: byte {error.start} is not UTF-8 (0x{error.object[error.start]:02x}); convert the file to UTF-8"
    )
