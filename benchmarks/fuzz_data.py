"""Read damaged data files, made from good ones by a seed, and report every fault of the readers.

    python benchmarks/fuzz_data.py                              # 200 files of each kind, a few minutes
    python benchmarks/fuzz_data.py --kinds arrow --count 5000 --seed 7

A damaged file is read, or it ends in one short error line with its name. A fault is anything else: another exception, a
crash of the process, more than 10 s, more than 2 GB of memory. Files are read in a child process, which is started again
after a fault; a file with a fault is kept in `--keep`.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

MAX_SECONDS = 10
MAX_BYTES = 2 << 30
MAX_MESSAGE = 2000
"""Characters of the longest error line."""
ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": f"question {number} é\u4e2d"},
            {"role": "assistant", "content": 'answer, "quoted"\n' * (number % 4 + 1), "weight": number % 2},
        ],
        "system": "Be brief." if number % 3 else None,
    }
    for number in range(60)
]


def _cells() -> list[dict[str, Any]]:
    return [{"messages": json.dumps(row["messages"]), "system": row["system"] or ""} for row in ROWS]


def _json_lines() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def _table(delimiter: str) -> bytes:
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row.values()] for row in _cells()]
    return "".join(f"{delimiter.join(cells)}\r\n" for cells in [["messages", "system"], *quoted]).encode()


def _arrow(open_writer: Callable[..., Any]) -> bytes:
    table = pa.Table.from_pylist(ROWS)
    sink = pa.BufferOutputStream()
    with open_writer(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=20)
    return bytes(sink.getvalue())


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=25)
    return bytes(sink.getvalue())


def _packed(codec: str, make: Callable[[], bytes]) -> bytes:
    return bytes(pa.compress(make(), codec, asbytes=True)) if codec == "zstd" else _gzip(make())


def _gzip(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "gzip") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


GOOD: dict[str, Callable[[], bytes]] = {
    "json": lambda: json.dumps(ROWS, ensure_ascii=False, indent=1).encode(),
    "jsonl": _json_lines,
    "csv": partial(_table, ","),
    "tsv": partial(_table, "\t"),
    "txt": lambda: b"\n\n".join(f"# {number}\ntext é".encode() for number in range(60)),
    "parquet": _parquet,
    "arrow": partial(_arrow, pa.ipc.new_file),
    "stream.arrow": partial(_arrow, pa.ipc.new_stream),
    "jsonl.gz": partial(_packed, "gzip", _json_lines),
    "jsonl.zst": partial(_packed, "zstd", _json_lines),
    "csv.gz": partial(_packed, "gzip", partial(_table, ",")),
}
"""Ending of a file to the content of a good one."""
NUM_ROWS = len(ROWS)
_WORDS = [
    b"\0",
    b"\x1b[31m",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"[" * 5000,
    b"{" * 300,
    b"\n",
    b"\r",
    b"9" * 5000,
    b"NaN",
    b"\xed\xa0\x80",
    b"null",
]


def damage(data: bytes, generator: random.Random) -> bytes:
    """Return a damaged copy."""
    damaged = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 5))):
        begin = generator.randrange(len(damaged) + 1)
        end = min(len(damaged), begin + generator.choice((1, 4, 64, 1000)))
        action = generator.randrange(7)
        if action == 0:
            for index in range(begin, min(end, begin + 8)):
                damaged[index] = generator.randrange(256)
        elif action == 1:
            del damaged[begin:]
        elif action == 2:
            del damaged[begin:end]
        elif action == 3:
            damaged[begin:begin] = generator.choice(_WORDS)
        elif action == 4:
            damaged[begin:end] = bytes(end - begin)
        elif action == 5:
            damaged[begin:begin] = damaged[begin:end] * generator.choice((1, 3, 500))
        else:
            damaged[begin:begin] = generator.randbytes(generator.choice((1, 16, 300)))
    return bytes(damaged)


def read(file: Path) -> int:
    """Read a file as data preparation does, and return its number of good rows.

    Raises:
        AssertionError: an error has several lines, is long, or does not name the file.
    """
    from xft.data import formats
    from xft.data.sources import RecordReader, parse, resolve_source
    from xft.errors import XftError

    count = 0

    def check(error: XftError, names_file: bool = True) -> None:
        message = str(error)
        assert len(message) <= MAX_MESSAGE, f"an error of {len(message)} characters"
        assert "\n" not in message, "an error of several lines"
        assert not names_file or file.name in message, "an error without the file"

    read_row = formats.text if ".txt" in file.name else formats.openai
    try:
        for location, raw in RecordReader(resolve_source(str(file))):
            try:
                row = parse(location, raw)
            except XftError as error:
                check(error)
                continue
            try:
                read_row(row)
                count += 1
            except XftError as error:
                check(error, names_file=False)
    except XftError as error:
        check(error)
    return count


READER = (sys.executable, __file__, "--read")
"""Command that reads the files named on its standard input, and prints the name of each that is done."""


def fuzz(
    kinds: Sequence[str], count: int, seed: int, keep: Path, reader: Sequence[str] = READER
) -> Iterator[str]:
    """Damage files and read them; yield a line for each fault.

    Args:
        kinds: endings of the files.
        count: files of each kind.
        seed: decides the damage.
        keep: folder of the files with a fault.
        reader: command of the child process.
    """
    folder = Path(tempfile.mkdtemp())
    try:
        for kind in kinds:
            good = GOOD[kind]()
            for number in range(count):
                generator = random.Random(f"{seed} {kind} {number}")
                (folder / f"{number}.{kind}").write_bytes(damage(good, generator))
        files = sorted(folder.iterdir())
        while files:
            names = "\n".join(map(str, files))
            child = subprocess.run(reader, input=names, capture_output=True, text=True, check=False)
            done = child.stdout.split("\n")[:-1]
            files = files[len(done) :]
            if files:
                lines = child.stderr.strip().split("\n")
                reason = lines[-1] or f"ended by {signal.Signals(-child.returncode).name}"
                yield f"{files[0].name}: {reason}"
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(files.pop(0), keep)
    finally:
        shutil.rmtree(folder)


def _read_all(names: Sequence[str]) -> None:
    """Read files in this process, and print the name of each that is done."""
    from xft.utils import system

    signal.alarm(6 * MAX_SECONDS)
    read(Path(names[0]))  # the import of libraries is not counted
    for name in names:
        signal.alarm(MAX_SECONDS)
        read(Path(name))
        signal.alarm(0)
        # Not ru_maxrss, which begins with the memory of the process that started this one.
        peak = system.peak_rss_bytes()
        assert peak <= MAX_BYTES, f"{peak / 1e9:.1f} GB of memory"
        print(name, flush=True)


def main() -> int:
    """Run, print the faults, and return 1 if there are any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=GOOD, default=list(GOOD))
    parser.add_argument("--count", type=int, default=200, help="files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="folder of the files with a fault")
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        _read_all(sys.stdin.read().split("\n"))
        return 0
    faults = 0
    for fault in fuzz(arguments.kinds, arguments.count, arguments.seed, arguments.keep):
        faults += 1
        print(fault, flush=True)
    print(f"{faults} faults in {arguments.count * len(arguments.kinds):,} files")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
