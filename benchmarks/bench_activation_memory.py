"""Measure how time and memory of a step scale, and compare the cost of a large vocabulary with TRL.

    python benchmarks/bench_activation_memory.py growth                  # context, tokens per batch, LoRA rank
    python benchmarks/bench_activation_memory.py vocabulary              # 151,936 tokens, xft and TRL, contexts up to 8k
    python benchmarks/bench_activation_memory.py checkpointing           # gradient checkpointing of some layers
    python benchmarks/bench_activation_memory.py growth vocabulary --docs docs/performance.md

The model has layers of the shape of SmolLM2-135M, but fewer, and random weights. Each line of a table is measured
in its own process. `growth` runs two steps (forward, backward, optimizer) with samples of random tokens, all of
them target tokens. It times the second step; memory is the peak of the process minus its size before the first
step. `checkpointing` does the same with all 30 layers of SmolLM2-135M, and prints the prediction of
`model.gradient_checkpointing='auto'`. In `vocabulary`, xft and TRL train an epoch of the same long rows from their
usual entry points, one row per step, with gradient checkpointing and LoRA; memory is the peak of the process.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_table import write_between
from benchmark import run

VOCABULARY = 151_936
"""Size of the vocabulary of Qwen 2.5 and 3."""
CONTEXTS = (512, 1024, 2048, 4096, 8192, 16384)
BATCHES = (1024, 2048, 4096, 8192, 16384)
RANKS = (8, 16, 32, 64, 128)
MIB = 2**20


def save_model(folder: Path, layers: int, vocabulary: int) -> str:
    """Save a model with random weights and the tokenizer of SmolLM2 in one folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from xft.models.loading import load_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=32768, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer: Any = load_tokenizer("xft://smollm2-135m-instruct")
    tokenizer.save_pretrained(folder)
    return str(folder)


def step(job: dict[str, Any]) -> dict[str, float]:
    """Run two steps of xft; return the time of the second and the memory of both."""
    import numpy as np
    import torch

    from xft.data import collate_padding_free
    from xft.models import CausalLMConfig, LoRA, TrainingModel
    from xft.models.activation_checkpointing import measure_activation_memory, set_activation_checkpointing
    from xft.objectives import next_token
    from xft.optim import adamw, param_groups
    from xft.training.activation_budget import predict_step_bytes
    from xft.types import Sample
    from xft.utils import system
    from xft.utils.memory import tune_glibc_malloc

    tune_glibc_malloc()
    spec = CausalLMConfig(job["model"], dtype="bfloat16")
    adapter = LoRA(r=job["rank"], lora_alpha=2 * job["rank"])
    loaded = spec.load(spec.load_tokenizer(), torch.device("cpu"), adapter)
    model = TrainingModel(loaded.model, next_token).train()
    optimizer = adamw(param_groups(model))
    numbers = np.random.default_rng(0)
    rows = [
        numbers.integers(5, 40_000, job["context"]).astype(np.int32)
        for _ in range(job["tokens"] // job["context"])
    ]
    batch = collate_padding_free([Sample(each, each.copy()) for each in rows])
    adapted: Any = model.model
    base = adapted.get_base_model()
    set_activation_checkpointing(base, job.get("checkpointed_layers", 0))
    gc.collect()
    system.reset_peak_rss()
    before = system.rss_bytes()
    read = {"wall": time.perf_counter, "cpu": time.process_time}[job["clock"]]
    seconds = 0.0
    for _ in range(2):
        begun = read()
        output = model(batch)
        (output.loss_sum / output.num_targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds = read() - begun
    peak = system.peak_rss_bytes()
    # Measured last: the memory that it frees would be available to the steps.
    set_activation_checkpointing(base, 0)
    kept = measure_activation_memory(adapted, base, batch)
    forecast = predict_step_bytes(kept, kept.tokens, job.get("checkpointed_layers", 0))
    return {"seconds": seconds, "memory": peak - before, "peak": peak, "expected": forecast}


def apart(job: dict[str, Any]) -> dict[str, float]:
    """Run ``step`` in its own process."""
    command = [sys.executable, __file__, "step", "--job", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{job} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def growth(arguments: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield three tables, each with one variable."""
    model = save_model(folder / "small", arguments.layers, 49_152)
    shared = {"model": model, "clock": arguments.clock}
    most = arguments.tokens
    tables: list[tuple[str, str, list[dict[str, int]]]] = [
        (
            f"context ({most:,} tokens per batch, rank 16)",
            "context",
            [{"context": each, "tokens": most, "rank": 16} for each in CONTEXTS if each <= most],
        ),
        (
            "tokens per batch (context 512, rank 16)",
            "tokens",
            [{"context": 512, "tokens": each, "rank": 16} for each in BATCHES if each <= most],
        ),
        (
            "LoRA rank (4,096 tokens per batch, context 512)",
            "rank",
            [{"context": 512, "tokens": 4096, "rank": each} for each in RANKS],
        ),
    ]
    for title, key, jobs in tables:
        yield f"| {title} | ms per 1,000 tokens | MiB per step | KiB per token |"
        yield "|---|---|---|---|"
        for job in jobs:
            found = apart({**shared, **job})
            yield (
                f"| {job[key]:,} | {found['seconds'] * 1e6 / job['tokens']:,.0f} | "
                f"{found['memory'] / MIB:,.0f} | {found['memory'] / 1024 / job['tokens']:.1f} |"
            )
        yield ""


def checkpointing(arguments: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield a table of steps with activation checkpointing of some layers."""
    job: dict[str, Any] = {
        "model": save_model(folder / "deep", 30, 49_152),
        "context": 512,
        "tokens": 4096,
        "rank": 16,
    }
    yield "| checkpointed layers of 30 | ms per 1,000 tokens | MiB per step | MiB predicted |"
    yield "|---|---|---|---|"
    for count in (0, 10, 20, 30):
        found = apart({**job, "clock": arguments.clock, "checkpointed_layers": count})
        yield (
            f"| {count} | {found['seconds'] * 1e6 / job['tokens']:,.0f} | {found['memory'] / MIB:,.0f} | "
            f"{found['expected'] / MIB:,.0f} |"
        )


def vocabulary(arguments: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield a table of the memory of xft and TRL with a large vocabulary."""
    from xft.models.loading import load_tokenizer

    model = save_model(folder / "large", arguments.layers, VOCABULARY)
    tokenizer: Any = load_tokenizer(model)
    yield f"| context (vocabulary of {VOCABULARY:,}) | xft, peak GiB | TRL, peak GiB | xft / TRL |"
    yield "|---|---|---|---|"
    for context in arguments.contexts:
        file = folder / f"rows_{context}.json"
        # " one" is one token; the template adds some more to a row.
        words = " one" * (context - 64)
        count = len(tokenizer(words, add_special_tokens=False)["input_ids"])
        rows = [{"instruction": f"Count {each}", "input": "", "output": words} for each in range(3)]
        file.write_text(json.dumps(rows), encoding="utf-8")
        job = {
            "model": model, "rows": str(file), "validation": [{"ids": [5, 6, 7], "labels": [-100, 6, 7]}],
            "length": context, "rank": 16, "lr": 1e-4, "dtype": "bfloat16", "clock": arguments.clock,
            "checkpointing": True,
        }  # fmt: skip
        sides: dict[str, dict[str, Any]] = {"xft": {}, "trl": {"per_device_train_batch_size": 1}}
        if context > arguments.trl_up_to:
            del sides["trl"]
        found = {
            kind: run({**job, "kind": kind, "options": options}, sys.executable)
            for kind, options in sides.items()
        }
        seen = {kind: each["steps"][-1]["targets"] for kind, each in found.items()}
        if min(seen.values()) < count:
            sys.exit(f"context {context}: target tokens of a step: got {seen}; expected at least {count:,}")
        peaks = {kind: each["peak"] / 2**30 for kind, each in found.items()}
        theirs = f"{peaks['trl']:.2f} | {peaks['xft'] / peaks['trl']:.0%}" if "trl" in peaks else "— | —"
        yield f"| {context:,} | {peaks['xft']:.2f} | {theirs} |"


def main() -> None:
    """Run the selected measurements; print the tables and write them into the documentation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=("growth", "checkpointing", "vocabulary", "step"))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=16384, help="maximum number of tokens per batch")
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument(
        "--trl-up-to",
        type=int,
        default=8192,
        help="longest context to run with TRL, which is slow",
    )
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--docs", type=Path, help="write the tables into this file, between their marks")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job is not None:
        print(json.dumps(step(arguments.job)))
        return
    for name, measure in (("growth", growth), ("checkpointing", checkpointing), ("vocabulary", vocabulary)):
        if name not in arguments.what:
            continue
        lines = []
        with tempfile.TemporaryDirectory() as folder:
            for line in measure(arguments, Path(folder)):
                print(line, flush=True)
                lines.append(line)
        if arguments.docs is not None:
            marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
            write_between(arguments.docs, "\n".join(lines).strip(), marks)


if __name__ == "__main__":
    main()
