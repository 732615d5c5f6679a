"""The place of a row, and what a reader gives."""

from collections.abc import Collection
from typing import NamedTuple

from xft.errors import DataError, list_names, short_repr
from xft.types import Row

MAX_ROW_BYTES = 8 << 20
"""Bytes of the largest row. Encoding takes about 150 times the memory of a row."""
QUARANTINE_HINT = "(data.on_invalid='quarantine' skips such rows and keeps a copy)"
"""End of the message of a row that does not fit."""
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


def num_bytes(value: object) -> int:
    """Return about the number of bytes that a value takes in Arrow."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(num_bytes, value.values()))
    return sum(map(num_bytes, value)) if isinstance(value, list) else 8


def abbreviate(value: object) -> str:
    """``value`` as an error message quotes it: one line, cut where it is long."""
    if isinstance(value, str):
        return repr(truncate(value))
    return truncate(short_repr(value, 30))


def truncate(text: str, longest: int = LONGEST_QUOTE) -> str:
    """``text``, cut where it is long."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def source_error(
    where: object, problem: str, expected: str = "", fix: str = "", got: object = None
) -> DataError:
    """Create the error of a file, or of a row in it.

    Args:
        where: the file or the location.
        problem: first part of the message.
        expected: accepted values, as a phrase.
        fix: advice, as a phrase.
        got: the value at fault; by default the problem.
    """
    parts = [problem, *([f"expected {expected}"] if expected else []), *([fix] if fix else [])]
    return DataError(
        f"{where}: {'; '.join(parts)}",
        key=str(where),
        got=problem if got is None else got,
        expected=expected,
        fix=fix,
    )


def too_large(where: object, fix: str = "split the row") -> DataError:
    """Create the error of a row that is larger than ``MAX_ROW_BYTES``."""
    return source_error(where, *size_problem(), fix)


def size_problem() -> tuple[str, str]:
    """Return what is wrong with a row that is too large, and what is expected."""
    limit = f"{MAX_ROW_BYTES >> 20} MiB"
    return f"has more than {limit}", f"rows of at most {limit}"


def repeated_columns(where: object, names: Collection[str]) -> DataError:
    """Create the error of a table with several columns of one name."""
    return source_error(where, f"several columns have the name {list_names(names)}", "unique names")


def damaged_text(where: object) -> DataError:
    """Create the error of a text with NUL bytes."""
    return source_error(where, "holds a NUL byte: the file is damaged, or not text in UTF-8")


def undecodable(location: RowLocation, error: UnicodeDecodeError) -> DataError:
    """The error of a row whose bytes are not UTF-8. Bytes are counted from 0 at its beginning."""
    fix = "convert the file to UTF-8: iconv -f cp1252 -t UTF-8 (Western Europe), or -f gb18030 (Chinese)"
    if error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return source_error(location, "looks like UTF-16", fix=fix)
    byte = error.object[error.start]
    return source_error(location, f"byte {error.start} is not UTF-8 (0x{byte:02x})", fix=fix, got=byte)
