"""Read rows from files of many types, and record the location of each row.

Types: json (a list of objects), jsonl, csv, tsv, txt, each also compressed (.gz, .zst), parquet and arrow. Sources:
files, folders, globs, files shipped with xft (``xft://NAME``), and hub data sets (``owner/name``, if no such file
exists)::

    reader = RecordReader(resolve_source("rows/*.jsonl.gz#500"))
    for location, raw in reader:
        row = parse(location, raw)

``resolve_source`` checks that the source exists. ``RecordReader`` yields records in constant memory; a malformed record
is yielded too, so that the counts of the data report balance. ``parse`` converts a record to a row. It is a separate
step because it is slow and may run in other processes.
"""

from xft.data.sources.location import Raw, Record, RowLocation
from xft.data.sources.parse import parse
from xft.data.sources.reader import RecordReader
from xft.data.sources.resolve import DataSource, fingerprint, resolve_source

__all__ = [
    "DataSource",
    "Raw",
    "Record",
    "RecordReader",
    "RowLocation",
    "fingerprint",
    "parse",
    "resolve_source",
]
