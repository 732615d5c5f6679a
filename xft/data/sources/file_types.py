"""File types: name suffix to reader."""

from collections.abc import Callable, Iterator
from pathlib import Path

from xft.data.sources.arrow import read_arrow, read_parquet
from xft.data.sources.csv_files import read_csv, read_tsv
from xft.data.sources.decompress import CODECS, Progress
from xft.data.sources.json_array import read_json
from xft.data.sources.jsonl import read_json_lines, read_text
from xft.data.sources.location import Record

READERS: dict[str, Callable[[Path, Progress], Iterator[Record]]] = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".txt": read_text,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}
"""Suffix to reader."""

COMPRESSIBLE = frozenset(READERS) - {".parquet", ".arrow"}
"""Suffixes of files that may be compressed as a whole."""


def file_type(file: Path) -> str | None:
    """Return the suffix in ``READERS`` that selects the reader; ``None`` for other files."""
    suffix = file.suffix.lower()
    if suffix in CODECS:
        inner = file.with_suffix("").suffix.lower()
        return inner if inner in COMPRESSIBLE else None
    return suffix if suffix in READERS else None
