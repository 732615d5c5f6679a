"""Measure time, memory and disk space of data preparation, compared with the tokenizer alone.

    python benchmarks/bench_data.py                      # 1,000,000 rows, about two minutes on two cores
    python benchmarks/bench_data.py --rows 50000 --tokenizer path/to/a/model
    python benchmarks/bench_data.py --growth --docs docs/performance.md

Prints the rate of `xft prepare-data` and of the tokenizer's batch call on the same texts, run alternately on the
same cores; the peak memory of preparation, worker processes included; the time to open the result from the cache;
the size of the files; and the time to pack a million lengths. With `--growth`, prints a table of preparation and of
the start of a run, for 100 rows, 1000 rows, up to `--rows`.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_table import write_between

BATCH = 1000
MIB = 2**20


def main() -> None:
    """Run the measurements and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--tokenizer", default="xft://smollm2-135m-instruct", help="a model folder, or the bundled model"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="rounds of the tokenizer alone, then preparation"
    )
    parser.add_argument(
        "--growth", action="store_true", help="print a table for 100 rows, 1000 rows, up to --rows"
    )
    parser.add_argument("--docs", type=Path, help="write that table into this file, between its marks")
    parser.add_argument("--part", choices=("raw", "prepare"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        {"raw": _raw, "prepare": _prepare}[arguments.part](arguments.folder, arguments.tokenizer)
        return
    folder = Path(tempfile.mkdtemp())
    try:
        if arguments.growth:
            _growth(folder, arguments)
        else:
            _compare(folder, arguments)
            _packing(random.Random(0))
    finally:
        shutil.rmtree(folder)


def _growth(folder: Path, arguments: argparse.Namespace) -> None:
    lines = [
        "| rows | tokens | preparation, s | rows/s | peak MiB | MiB on disk | open from cache, s | first batch, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    count = 100
    while count <= arguments.rows:
        _write_rows(folder / "rows.jsonl", count)
        done = _run("prepare", folder, arguments.tokenizer)
        lines.append(
            f"| {count:,} | {done['tokens']:,} | {done['seconds']:.2f} | {count / done['seconds']:,.0f} | "
            f"{done['memory'] / MIB:,.0f} | {done['disk'] / MIB:,.1f} | {done['again']:.2f} | {done['begin']:.2f} |"
        )
        print(lines[-1], flush=True)
        count *= 10
    if arguments.docs is not None:
        write_between(arguments.docs, "\n".join(lines), ("<!-- rows -->", "<!-- end of rows -->"))


def _compare(folder: Path, arguments: argparse.Namespace) -> None:
    file = folder / "rows.jsonl"
    _write_rows(file, arguments.rows)
    print(f"rows          {arguments.rows:,}, {file.stat().st_size / MIB:,.0f} MiB of JSON lines")
    for _ in range(arguments.rounds):
        raw = _run("raw", folder, arguments.tokenizer)
        done = _run("prepare", folder, arguments.tokenizer)
        share = raw["seconds"] / done["seconds"]
        print(
            f"tokenizer     {arguments.rows / raw['seconds']:,.0f} rows/s, {raw['tokens'] / raw['seconds']:,.0f} tokens/s"
        )
        print(
            f"preparation   {arguments.rows / done['seconds']:,.0f} rows/s = {share:.0%} of the tokenizer alone"
        )
        print(f"memory        {done['memory'] / MIB:,.0f} MiB peak, worker processes included")
        print(f"open cache    {done['again']:.2f} s")
        print(f"on disk       {done['disk'] / MIB:,.0f} MiB for {done['tokens']:,} tokens")


def _run(part: str, folder: Path, tokenizer: str) -> dict[str, float]:
    """Run one part in its own process, so that the parts share no threads and no memory."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), "--tokenizer", tokenizer]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _write_rows(file: Path, count: int) -> None:
    """Write rows of English words, all different."""
    from xft.utils import paths

    words = paths.asset("handbook.txt").read_text(encoding="utf-8").split()
    random_ = random.Random(0)
    with file.open("w", encoding="utf-8") as out:
        for number in range(count):
            question = " ".join(random_.choices(words, k=random_.randint(5, 20)))
            answer = " ".join(random_.choices(words, k=random_.randint(20, 120)))
            out.write(json.dumps({"instruction": f"{question}?", "output": f"{number}: {answer}"}) + "\n")


def _raw(folder: Path, path: str) -> None:
    """Time the tokenizer's batch call on the texts, with all cores; results are discarded."""
    from xft.data.formats import alpaca
    from xft.models import CausalLMConfig
    from xft.templates import ChatTemplate

    tokenizer = CausalLMConfig(path).load_tokenizer()
    template = ChatTemplate().bind(tokenizer)
    backend = tokenizer.backend_tokenizer
    seconds, tokens, texts = 0.0, 0, []
    with (folder / "rows.jsonl").open("rb") as rows:
        for line in rows:
            texts.append(template.render(alpaca(json.loads(line))))
            if len(texts) == BATCH:
                begun = time.perf_counter()
                encodings = backend.encode_batch(texts, add_special_tokens=False)
                seconds += time.perf_counter() - begun
                tokens += sum(len(each) for each in encodings)
                texts.clear()
    if texts:
        begun = time.perf_counter()
        tokens += sum(len(each) for each in backend.encode_batch(texts, add_special_tokens=False))
        seconds += time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "tokens": tokens}))


def _prepare(folder: Path, path: str) -> None:
    """Time `xft prepare-data`, from the file to the token store and the splits."""
    import threading

    import psutil

    from xft.data import Collator, EpochBatchSampler, InstructionData
    from xft.models import CausalLMConfig
    from xft.templates import ChatTemplate

    tokenizer = CausalLMConfig(path).load_tokenizer()
    template = ChatTemplate().bind(tokenizer)
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    data = InstructionData(str(folder / "rows.jsonl"), cache_dir=str(cache))
    process, most, done = psutil.Process(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while True:
            # Shared memory is counted once (proportional set size, Linux).
            family = [process, *process.children(recursive=True)]
            most = max(most, sum(_memory(each) for each in family))
            if done.wait(0.2):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    prepared = data.prepare(tokenizer, template)
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    begun = time.perf_counter()
    data.prepare(tokenizer, template)
    again = time.perf_counter() - begun
    begun = time.perf_counter()
    plan = EpochBatchSampler(tuple(prepared.train.lengths.tolist()), pack_length=2048)
    Collator().collate(prepared.train, plan.epoch(0)[0])
    begin = time.perf_counter() - begun
    disk = sum(each.stat().st_size for each in cache.rglob("*") if each.is_file())
    tokens = int(prepared.train.lengths.sum() + prepared.val.lengths.sum())
    found = {
        "seconds": seconds,
        "memory": most,
        "again": again,
        "begin": begin,
        "disk": disk,
        "tokens": tokens,
    }
    print(json.dumps(found))


def _memory(process: "object") -> int:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return int(getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss)
    except psutil.Error:  # it ended during the measurement
        return 0


def _packing(random_: random.Random) -> None:
    from xft.data.batching.packing import pack, packing_efficiency

    lengths = [min(2048, max(8, int(random_.lognormvariate(5, 1)))) for _ in range(1_000_000)]
    begun = time.perf_counter()
    rows = pack(lengths, 2048)
    seconds = time.perf_counter() - begun
    print(
        f"packing       1,000,000 lengths in {seconds:.1f} s, {packing_efficiency(lengths, rows, 2048):.2%} filled"
    )


if __name__ == "__main__":
    main()
