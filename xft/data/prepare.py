"""Prepare a source: read and encode its rows into a store, in several processes if it is large."""

import gc
import json
import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from tqdm import tqdm

from xft.data.duplicates import near_duplicates
from xft.data.encoding.encoded import EncodedChunk
from xft.data.encoding.row_encoder import RowEncoder
from xft.data.formats.tracked_row import ColumnUsage
from xft.data.formats.turns_as_text import find_turn_columns, mark_turn_columns
from xft.data.sources import DataSource, Record, RecordReader, fingerprint
from xft.data.store.cache import cache_key, callable_fingerprint, get_or_build, tokenizer_fingerprint
from xft.data.store.token_store import StoreWriter, TokenStore
from xft.errors import DataError
from xft.utils import console
from xft.utils.system import available_cpus

_CHUNK_ROWS = 1000
_CHUNK_BYTES = 1 << 20
_SMALL = 4 << 20
"""Bytes below which a source is prepared in this process: starting workers would take longer."""
_SMALL_WITH_IMAGES = _SMALL // 16
"""The same for a vision-language model, whose rows name files."""
_EXAMPLES = 20
_COUNTED = (
    "rows_read",
    "rows_truncated",
    "rows_with_special_tokens",
    "rows_with_unknown_characters",
    "rows_without_reasoning",
    "rows_chosen_scored_lower",
    "quarantined",
    "images",
    "image_tokens",
    "images_turned",
    "images_animated",
    "images_converted",
)


@dataclass(frozen=True)
class PrepareSpec:
    """One source, and how to read it.

    Attributes:
        source: files or hub dataset to read.
        split: split of a hub dataset.
        streaming: stream a hub dataset instead of downloading it first.
        seed: selects the rows of ``path#500``.
        num_workers: processes; default: one per core.
        cache_dir: folder of the stores.
    """

    source: DataSource
    split: str
    streaming: bool
    seed: int
    num_workers: int | None
    cache_dir: Path


def prepare(spec: PrepareSpec, encoder: RowEncoder[Any]) -> TokenStore:
    """Return the store of a source, from the cache or built now.

    Raises:
        DataError: a row does not fit, or the source cannot be read.
    """

    return get_or_build(spec.cache_dir, _key(spec, encoder), lambda folder: _write(spec, encoder, folder))


def _key(spec: PrepareSpec, encoder: RowEncoder[Any]) -> str:
    template, options = encoder.template, encoder.options
    # A template that writes the date renders other text on another day.
    writes_date = template is not None and template.uses_current_date
    day = time.strftime("%Y-%m-%d") if writes_date else None
    return cache_key(
        [
            # A store keeps the origin of its rows, so paths count as well as content.
            [str(file) for file in spec.source.files],
            fingerprint(spec.source, spec.split),
            (spec.source.rows, spec.seed, spec.streaming),
            callable_fingerprint(options.format),
            tokenizer_fingerprint(encoder.tokenizer),
            None if template is None else (template.source, repr(template.options), day),
            (
                type(encoder).__name__,
                options.max_length,
                options.on_overlong,
                options.on_invalid,
                options.group_by,
                options.image_folder,
                options.keep_answers,
            ),
            None if encoder.processor is None else encoder.processor.fingerprint,
        ]
    )


def _write(spec: PrepareSpec, encoder: RowEncoder[Any], folder: Path) -> None:
    begin = time.perf_counter()
    states = _file_states(spec.source)
    reading = RecordReader(spec.source, spec.split, spec.seed, spec.streaming)
    writer = StoreWriter(folder)
    counts: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))
    dropped: Counter[str] = Counter()
    too_long: list[int] = []
    examples: list[dict[str, Any]] = []
    usage = ColumnUsage()
    turn_columns = find_turn_columns(spec.source, spec.split, spec.streaming)
    with (folder / "quarantine.jsonl").open("wb") as quarantine:
        for chunk in _encode(spec, encoder, reading, turn_columns):
            images, data = chunk.images, chunk.image_data
            writer.append(chunk.rows, chunk.samples, chunk.tokens, chunk.files, images, data, chunk.columns)
            counts.update(chunk.counts)
            counts["quarantined"] += len(chunk.quarantined)
            dropped += chunk.dropped
            too_long += chunk.too_long
            usage.merge(chunk.usage)
            for entry in chunk.quarantined:
                line = json.dumps(entry, ensure_ascii=False, default=str) + "\n"
                quarantine.write(line.encode("utf-8", "backslashreplace"))
                if len(examples) < _EXAMPLES:
                    examples.append({key: value for key, value in entry.items() if key != "row"})
    _check_complete(spec, reading, counts["rows_read"], states)
    stats = {
        "rows_available": reading.available,
        **counts,
        "rows_dropped": dict(dropped),
        "ignored_columns": usage.unread(),
        "turn_columns": turn_columns,
        "quarantine_examples": examples,
        "near_duplicates": 0,
        "near_examples": [],
    }
    writer.close(stats, too_long)
    near = near_duplicates(TokenStore(folder))
    writer.write_stats(stats | {"near_duplicates": len(near), "near_examples": near[:_EXAMPLES]})
    seconds = time.perf_counter() - begin
    if seconds > 5:
        console.info(
            f"data      prepared {counts['rows_read']:,} rows of {spec.source.name} in {seconds:.0f} s"
        )


def _check_complete(
    spec: PrepareSpec, reading: RecordReader, read: int, states: list[tuple[int, int]]
) -> None:
    """Check that the source has rows, that all were encoded, and that no file changed meanwhile."""
    name = spec.source.name
    if not read:
        raise DataError(
            f"{name}: no rows; expected at least 2, one to train on and one to validate on",
            key="data.path",
            got=name,
        )
    if spec.source.rows is None:
        assert read == reading.available, f"{reading.available} rows in the source, {read} prepared"
    if _file_states(spec.source) != states:
        raise DataError(f"{name}: was changed while it was read. Start again", key="data.path", got=name)


def _file_states(source: DataSource) -> list[tuple[int, int]]:
    """Return size and modification time of each file."""
    return [(file.stat().st_size, file.stat().st_mtime_ns) for file in source.files]


def _encode(
    spec: PrepareSpec, encoder: RowEncoder[Any], reading: RecordReader, turn_columns: Collection[str] = ()
) -> Iterator[EncodedChunk]:
    """Yield the encoded chunks of a source in its order, even if they finish in another."""
    size = spec.source.size
    num_workers = spec.num_workers or available_cpus()
    chunks = _chunk_records(mark_turn_columns(reading, spec.source, turn_columns))
    small = _SMALL if encoder.processor is None else _SMALL_WITH_IMAGES
    if num_workers < 2 or (size is not None and size < small):
        for chunk in chunks:  # map would take a StopIteration of the encoder for the end of the chunks
            yield encoder(chunk)
        return
    with tqdm(
        total=size,
        unit="B",
        unit_scale=True,
        desc=f"preparing {spec.source.name}",
        disable=None,
        leave=False,
    ) as bar:
        for encoded in _encode_in_processes(encoder, chunks, num_workers):
            yield encoded
            bar.update(reading.bytes_read - bar.n)


def _chunk_records(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Group records into chunks of bounded length and size."""
    chunk: list[Record] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += len(record[1]) if isinstance(record[1], bytes) else 1000
        if len(chunk) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _WorkerState:
    """The encoder of a worker process, sent once instead of with every chunk."""

    encoder: RowEncoder[Any]


def _init_worker(encoder: RowEncoder[Any]) -> None:
    # Keep the garbage collector from scanning the objects of the parent again and again.
    gc.freeze()
    # There is a process for every core. In a fork, threads of torch could wait for those of the parent.
    torch.set_num_threads(1)
    _WorkerState.encoder = encoder
    parent = os.getppid()

    def exit_with_parent() -> None:
        # A killed parent cannot shut its workers down.
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=exit_with_parent, daemon=True).start()


def _encode_chunk(records: list[Record]) -> EncodedChunk:
    return _WorkerState.encoder(records)


def _encode_in_processes(
    encoder: RowEncoder[Any], chunks: Iterator[list[Record]], num_workers: int
) -> Iterator[EncodedChunk]:
    """Encode chunks in worker processes, a few ahead, and yield the results in order.

    Workers are forked where the platform can, because a format need not be importable. The threads
    of the tokenizer are off: there is a process for every core.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    pending: deque[Future[EncodedChunk]] = deque()
    pool = ProcessPoolExecutor(num_workers, context, _init_worker, (encoder,))
    try:
        for records in chunks:
            pending.append(pool.submit(_encode_chunk, records))
            if len(pending) > 2 * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a preparation process was killed, most likely out of memory. Set data.num_workers=1",
            key="data.num_workers",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
