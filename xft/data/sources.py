"""Read rows, each with the place that it came from.

json (a list of objects), jsonl, csv, parquet, txt, files shipped with xft (``xft://NAME``) and,
where no such file exists and the name looks like ``owner/name``, a data set of the hub.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xft import paths
from xft.errors import ConfigError, DataError
from xft.types import Row

_LONGEST_FIELD = 2**31 - 1
HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row came from: a file, and the line or the number of the row in it."""

    file: str
    line: int
    unit: str = "line"

    @property
    def place(self) -> str:
        """What ``line`` counts, as the key of a record: ``line`` or ``number``."""
        return "line" if self.unit == "line" else "number"

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}" if self.unit == "line" else f"{self.file}, {self.unit} {self.line}"
        )


Located = tuple[Origin, Row]


def locate(path: str) -> Path | None:
    """The file that ``path`` names, or ``None`` when it names a data set of the hub.

    Raises:
        ConfigError: there is no such file and the name cannot be one of the hub.
    """
    if path.startswith(paths.SCHEME):
        return paths.asset(path.removeprefix(paths.SCHEME))
    file = Path(path).expanduser()
    if file.is_file():
        if file.suffix.lower() not in READERS:
            raise ConfigError(
                f"data.path: {path} ends in {file.suffix!r}; expected one of {', '.join(READERS)}"
            )
        return file
    if file.suffix.lower() in READERS or not HUB_NAME.match(path) or file.parent.is_dir():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(
            f"data.path: {path} {what}; expected a file ({', '.join(READERS)}), xft://NAME, "
            "or owner/name of a hub data set"
        )
    return None


def read_rows(path: str, split: str = "train") -> Iterator[Located]:
    """Read every row that ``path`` names.

    Args:
        path: see the module's docstring.
        split: the split to take of a hub data set; files have none.

    Yields:
        The origin and the row, a dict from column to value.

    Raises:
        ConfigError: see ``locate``.
        DataError: the file is empty, broken, or holds something that is not a row.
    """
    file = locate(path)
    rows = _read_hub(path, split) if file is None else READERS[file.suffix.lower()](file)
    empty = True
    for each in rows:
        empty = False
        yield each
    if empty:
        raise DataError(f"{path}: no rows; expected at least 2, one to train on and one to validate on")


def _text(file: Path, newline: str | None = None) -> str:
    try:
        with file.open(encoding="utf-8-sig", newline=newline) as opened:
            return opened.read()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; convert the file to UTF-8") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error


def _row(value: Any, origin: Origin) -> Located:
    if not isinstance(value, dict):
        raise DataError(f'{origin}: got {_short(value)}, expected an object such as {{"instruction": ...}}')
    return origin, value


def _read_json(file: Path) -> Iterator[Located]:
    text = _text(file)
    if not text.strip():
        return
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; it looks like JSON lines: name it .jsonl" if error.msg == "Extra data" else ""
        raise DataError(
            f"{file}:{error.lineno}: broken JSON at column {error.colno} ({error.msg}){hint}"
        ) from error
    if not isinstance(values, list):
        raise DataError(f"{file}: got a JSON {type(values).__name__}, expected a list of objects")
    for number, value in enumerate(values, 1):
        yield _row(value, Origin(str(file), number, "row"))


def _read_jsonl(file: Path) -> Iterator[Located]:
    for number, line in enumerate(_text(file).split("\n"), 1):
        if not line.strip():
            continue
        origin = Origin(str(file), number)
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{origin}: broken JSON at column {error.colno} ({error.msg}); got {_short(line)}, "
                "expected one whole object a line"
            ) from error
        yield _row(value, origin)


def _read_csv(file: Path) -> Iterator[Located]:
    csv.field_size_limit(_LONGEST_FIELD)
    # Fields keep their line breaks as they are; only the reader may say what ends a row.
    reader = csv.DictReader(io.StringIO(_text(file, newline=""), newline=""), strict=True)
    try:
        names = reader.fieldnames or []
        if len(set(names)) != len(names):
            raise DataError(
                f"{file}:1: a column name stands twice in the header: {', '.join(map(repr, names))}"
            )
        for row in reader:
            origin = Origin(str(file), reader.line_num)
            if None in row or None in row.values():
                raise DataError(
                    f"{origin}: the number of fields is not the header's {len(reader.fieldnames or [])}"
                )
            yield origin, dict(row)
    except csv.Error as error:
        raise DataError(f"{file}:{reader.reader.line_num}: broken CSV ({error})") from error


def _read_parquet(file: Path) -> Iterator[Located]:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.ParquetFile(file)
    except ArrowException as error:
        raise DataError(f"{file}: not a parquet file ({error})") from error
    number = 0
    for batch in table.iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield Origin(str(file), number, "row"), row


def _read_txt(file: Path) -> Iterator[Located]:
    """Documents are parted by empty lines; in a file that has none, each line is one."""
    whole = _text(file)
    text = whole.strip("\n")
    line = 1 + len(whole) - len(whole.lstrip("\n"))
    by_paragraph = re.search(r"\n[ \t]*\n", text) is not None
    pattern = r"\n(?:[ \t]*\n)+" if by_paragraph else r"\n"
    start = 0
    for match in [*re.finditer(pattern, text), None]:
        end = len(text) if match is None else match.start()
        document = text[start:end]
        if document.strip():
            yield Origin(str(file), line), {"text": document}
        if match is not None:
            line += text.count("\n", start, match.end())
            start = match.end()


def _read_hub(name: str, split: str) -> Iterator[Located]:
    import datasets

    try:
        rows = datasets.load_dataset(name, split=split)
    except Exception as error:
        raise DataError(
            f"{name}: is no file, and the hub gives no such data set ({type(error).__name__}: {_short(str(error))}); "
            "give a file, or check the name and the network"
        ) from error
    for number, row in enumerate(rows, 1):
        yield Origin(name, number, "row"), row


READERS: dict[str, Callable[[Path], Iterator[Located]]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}


def _short(value: Any, length: int = 60) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= length else text[: length - 1] + "…")
