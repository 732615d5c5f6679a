"""Prepare a source: read it, encode it, in parallel where there is much of it, into a store."""

import gc
import json
import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from tqdm import tqdm

from xft.data.duplicates import near_duplicates
from xft.data.encoding.row_encoder import EncodedChunk, RowEncoder
from xft.data.sources import Location, Reading, Record, fingerprint
from xft.data.store.cache import cache_key, callable_fingerprint, get_or_build, tokenizer_fingerprint
from xft.data.store.token_store import StoreWriter, TokenStore
from xft.errors import DataError
from xft.utils import console

_CHUNK_ROWS = 1000
_CHUNK_BYTES = 1 << 20
_SMALL = 4 << 20
"""Bytes below which a source is prepared in this process: starting others would take longer."""
_EXAMPLES = 20


@dataclass(frozen=True)
class PrepareSpec:
    """What is to be prepared, and how.

    Attributes:
        location: the source.
        split: of a hub data set.
        streaming: read a hub data set as a stream, without downloading all of it first.
        seed: chooses the rows of ``path#500``.
        workers: processes; ``None`` takes one a core.
        cache: the folder of the stores.
    """

    location: Location
    split: str
    streaming: bool
    seed: int
    workers: int | None
    cache: Path


def prepare(order: PrepareSpec, task: RowEncoder[Any]) -> TokenStore:
    """The store of a source: out of the cache, or made now.

    Raises:
        DataError: a row does not fit, or the source cannot be read.
    """

    def make(folder: Path) -> None:
        _write(order, task, folder)

    return get_or_build(order.cache, _key(order, task), make)


def _key(order: PrepareSpec, task: RowEncoder[Any]) -> str:
    template = task.template
    # A template that writes the day makes other texts tomorrow.
    day = time.strftime("%Y-%m-%d") if getattr(template, "dated", False) else None
    return cache_key(
        [
            # A store remembers where its rows came from, so the place counts beside the content.
            [str(each) for each in order.location.files],
            fingerprint(order.location, order.split),
            (order.location.rows, order.seed, order.streaming),
            callable_fingerprint(task.format),
            tokenizer_fingerprint(task.tokenizer),
            None if template is None else (template.source, day),
            (type(task).__name__, task.max_length, task.on_overlong, task.on_invalid, task.group_by),
        ]
    )


def _write(order: PrepareSpec, task: RowEncoder[Any], folder: Path) -> None:
    begun = time.perf_counter()
    states = _states(order.location)
    reading = Reading(order.location, order.split, order.seed, order.streaming)
    writer = StoreWriter(folder)
    read, cut, specials, unknown, contradicted, aside = 0, 0, 0, 0, 0, 0
    dropped: Counter[str] = Counter()
    too_long: list[int] = []
    examples: list[dict[str, Any]] = []
    with (folder / "quarantine.jsonl").open("wb") as quarantine:
        for chunk in _chunks(order, task, reading):
            writer.append(chunk.rows, chunk.samples, chunk.tokens, chunk.files)
            read, cut, specials = read + chunk.read, cut + chunk.cut, specials + chunk.with_specials
            dropped += chunk.dropped
            unknown += chunk.with_unknown
            contradicted += chunk.contradicted
            too_long += chunk.too_long
            aside += len(chunk.quarantined)
            for each in chunk.quarantined:
                line = json.dumps(each, ensure_ascii=False, default=str) + "\n"
                quarantine.write(line.encode("utf-8", "backslashreplace"))
                if len(examples) < _EXAMPLES:
                    examples.append({key: value for key, value in each.items() if key != "row"})
    if not read:
        raise DataError(
            f"{order.location.name}: no rows; expected at least 2, one to train on and one to validate on"
        )
    if order.location.rows is None:
        assert read == reading.available, f"{reading.available} rows in the source, {read} prepared"
    if _states(order.location) != states:
        raise DataError(f"{order.location.name}: was changed while it was read; start again")
    stats = {
        "rows_available": reading.available,
        "rows_read": read,
        "rows_dropped": dict(dropped),
        "rows_cut": cut,
        "rows_with_special_tokens": specials,
        "rows_with_unknown_characters": unknown,
        "rows_chosen_scored_lower": contradicted,
        "quarantined": aside,
        "quarantine_examples": examples,
        "near_duplicates": 0,
        "near_examples": [],
    }
    writer.close(stats, too_long)
    near = near_duplicates(TokenStore(folder))
    stats |= {"near_duplicates": len(near), "near_examples": near[:_EXAMPLES]}
    writer.write_stats(stats)
    seconds = time.perf_counter() - begun
    if seconds > 5:
        console.info(f"data      prepared {read:,} rows of {order.location.name} in {seconds:.0f} s")


def _states(location: Location) -> list[tuple[int, int]]:
    """Size and time of change of each file."""
    return [(each.stat().st_size, each.stat().st_mtime_ns) for each in location.files]


def _chunks(order: PrepareSpec, task: RowEncoder[Any], reading: Reading) -> Iterator[EncodedChunk]:
    """The chunks of a source, in its order, whatever order they are finished in."""
    size = order.location.size
    workers = order.workers or _cores()
    portions = _chunk_records(reading)
    if workers < 2 or (size is not None and size < _SMALL):
        yield from map(task, portions)
        return
    with tqdm(
        total=size,
        unit="B",
        unit_scale=True,
        desc=f"preparing {order.location.name}",
        disable=None,
        leave=False,
    ) as bar:
        for chunk in _in_processes(task, portions, workers):
            yield chunk
            bar.update(reading.bytes_read - bar.n)


def _cores() -> int:
    """Cores that this process may use; not every platform can say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunk_records(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in portions of bounded length and size."""
    portion: list[Record] = []
    size = 0
    for record in records:
        portion.append(record)
        size += len(record[1]) if isinstance(record[1], bytes) else 1000
        if len(portion) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


class _WorkerState:
    """The task of a worker process: it is handed over once, not with every portion."""

    task: RowEncoder[Any]


def _init_worker(task: RowEncoder[Any]) -> None:
    # What the parent has loaded is not looked through for garbage again and again.
    gc.freeze()
    _WorkerState.task = task
    parent = os.getppid()

    def leave_with_the_parent() -> None:
        # A parent that was killed can no longer say that the work is over.
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=leave_with_the_parent, daemon=True).start()


def _encode_chunk(portion: list[Record]) -> EncodedChunk:
    return _WorkerState.task(portion)


def _in_processes(
    task: RowEncoder[Any], portions: Iterator[list[Record]], workers: int
) -> Iterator[EncodedChunk]:
    """Work on portions in processes of their own, a few ahead, and give the chunks in order.

    Forked where the platform can, so that a format need not be importable; the tokenizer's own
    threads are off, since there is a process for every core.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    waiting: deque[Future[EncodedChunk]] = deque()
    pool = ProcessPoolExecutor(workers, context, _init_worker, (task,))
    try:
        for portion in portions:
            waiting.append(pool.submit(_encode_chunk, portion))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that prepared data was killed, most likely for want of memory; set data.num_workers=1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
