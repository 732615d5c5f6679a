"""Read rows from whatever people bring, each with the place that it came from.

json (a list of objects), jsonl, csv, tsv, txt, all of these also packed (.gz, .zst), parquet and
arrow; folders and globs of them, files shipped with xft (``xft://NAME``) and, where no such file
exists and the name looks like ``owner/name``, a data set of the hub::

    reading = Reading(locate("rows/*.jsonl.gz#500"))
    for origin, raw in reading:
        row = parse(origin, raw)

``locate`` says at once whether something is there. ``Reading`` gives records and keeps memory
flat; what can be read but is wrong is a record too, so that the books can close. ``parse`` turns a
record into a row; it is apart from reading because it is slow, and may run in other processes.
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
