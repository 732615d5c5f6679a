"""Compare xft with other frameworks on the same rows and the same model, each run in its own process.

    python benchmarks/benchmark.py --rows alpaca.json --contestants xft xft-plain trl
    python benchmarks/benchmark.py --rows alpaca.json --python llamafactory=/path/to/its/python --repeats 3
    python benchmarks/benchmark.py --rows alpaca.json --profile        # profile of a step of xft

Every round runs all contestants one after another, so other load on the machine slows all of them; compare the
ratios within a round. On a machine with more work than cores, use `--clock cpu` with OMP_NUM_THREADS=1 in the
environment to measure CPU time instead of wall time. All contestants train one epoch of the same rows with LoRA
on all linear layers at a constant learning rate. The first step is excluded from the times.

MFU is the rate of the counted operations divided by the rate of a large matrix product, measured in each round.
Counted are the products of layers and adapters for each token except padding, of the head for each target token,
and of attention within a sample. Recomputed operations count once.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_table import MARKS, table, write_between

CONTESTANTS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "xft": ("xft", False, {}),
    "xft-checkpointing": ("xft", True, {}),
    "xft-plain": ("xft", False, {"model": {"fused_kernels": False}}),
    "xft-qlora": ("xft", False, {"quantization": {"type": "nf4"}}),
    "trl": ("trl", True, {}),
    "trl-unpacked": ("trl", False, {}),
    "trl-packed": ("trl", False, {"packing": True, "per_device_train_batch_size": 1}),
    "unsloth": ("unsloth", False, {"per_device_train_batch_size": 1}),
    "unsloth-checkpointing": ("unsloth", True, {"per_device_train_batch_size": 1}),
    "unsloth-compiled": ("unsloth", False, {"per_device_train_batch_size": 1, "compile": True}),
    "llamafactory": ("llamafactory", False, {"packing": True, "neat_packing": True}),
    "llamafactory-checkpointing": ("llamafactory", True, {"packing": True, "neat_packing": True}),
}
"""Name: framework, gradient checkpointing, options of the framework."""

NOTES = {
    "xft": "packed, samples isolated",
    "xft-checkpointing": "… with gradient checkpointing",
    "xft-plain": "… `model.fused_kernels=False`: plain transformers, peft and torch",
    "xft-qlora": "… base in NF4",
    "trl": "defaults: not packed, 8 rows per batch, gradient checkpointing",
    "trl-unpacked": "not packed, 8 rows per batch, without gradient checkpointing",
    "trl-packed": "packed; samples attend to each other without FlashAttention",
    "unsloth": "one row per batch, not packed (it disables packing on CPUs)",
    "unsloth-checkpointing": "… with its default gradient checkpointing",
    "unsloth-compiled": "… each layer compiled; the first step, which compiles, is not counted",
    "llamafactory": "`neat_packing`, samples isolated",
    "llamafactory-checkpointing": "… with gradient checkpointing",
}


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one epoch, forward and backward.

    Attributes:
        per_token: operations per token, padding excluded.
        per_target: operations per target token.
        attention: operations of the attention of all samples.
    """

    per_token: float
    per_target: float
    attention: float

    def total(self, tokens: float, targets: float, share: float) -> float:
        """Return the operations of a number of tokens, which are a fraction ``share`` of the rows."""
        return self.per_token * tokens + self.per_target * targets + self.attention * share


def count_work(model: Any, rank: int, lengths: list[int], full: bool = False) -> Work:
    """Count the operations of a frozen base and its adapters, or of a base that is trained in ``full``.

    They are 2 per weight, token and product.
    """
    from torch import nn

    head = model.get_output_embeddings()
    layers = [each for each in model.modules() if isinstance(each, nn.Linear) and each is not head]
    base = sum(each.in_features * each.out_features for each in layers)
    adapters = sum(rank * (each.in_features + each.out_features) for each in layers)
    config = model.config.get_text_config()
    width = config.num_attention_heads * getattr(
        config, "head_dim", config.hidden_size // config.num_attention_heads
    )
    pairs = sum(each * (each + 1) / 2 for each in lengths)
    return Work(
        # The base computes the output and the input gradient; an adapter also computes its weight gradient.
        per_token=6.0 * base if full else 4.0 * base + 6.0 * adapters,
        per_target=(6.0 if full else 4.0) * head.in_features * head.out_features,
        attention=3 * 4.0 * pairs * width * config.num_hidden_layers,
    )


def prepare(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Work]:
    """Write the rows, encode the validation rows, and count the operations.

    Returns:
        Settings shared by all jobs, and the operations of an epoch.
    """
    import torch

    from xft.data import InstructionData
    from xft.models import CausalLMConfig
    from xft.models.hub import resolve_path
    from xft.templates import ChatTemplate

    rows = json.loads(Path(arguments.rows).read_text(encoding="utf-8"))
    parts = rows[: arguments.count], rows[arguments.count : arguments.count + arguments.validation]
    spec = CausalLMConfig(arguments.model, dtype=arguments.dtype)
    tokenizer = spec.load_tokenizer()
    template = ChatTemplate().bind(tokenizer)
    encoded = []
    for name, part in zip(("train", "validation"), parts, strict=True):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(part), encoding="utf-8")
        data = InstructionData(str(file), max_length=arguments.length, val_split=None, num_workers=1)
        encoded.append(data.prepare(tokenizer, template).train)
    model = spec.load(tokenizer, torch.device("cpu")).model
    job = {
        "model": resolve_path(arguments.model),
        "rows": str(folder / "train.json"),
        "validation": [{"ids": each.input_ids.tolist(), "labels": each.labels.tolist()} for each in encoded[1]],
        "length": arguments.length, "rank": arguments.rank, "lr": arguments.lr, "dtype": arguments.dtype,
        "template": arguments.template, "clock": arguments.clock, "tuning": "lora", "save": True,
    }  # fmt: skip
    return job, count_work(model, arguments.rank, encoded[0].lengths.tolist())


def run(job: dict[str, Any], python: str) -> dict[str, Any]:
    """Run a job in a process, in a temporary folder.

    Raises:
        SystemExit: the job failed; its last lines of output are printed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps({**job, "folder": name}), encoding="utf-8")
        command = [
            python,
            str(Path(__file__).with_name("bench_frameworks.py")),
            str(folder / "job.json"),
            str(folder / "out.json"),
        ]
        with (folder / "log").open("w+") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
            log.seek(0)
            if code != 0:
                sys.exit(
                    f"{job['kind']} ended with code {code}:\n" + "\n".join(log.read().splitlines()[-25:])
                )
        return dict(json.loads((folder / "out.json").read_text(encoding="utf-8")))


def figures(
    found: dict[str, Any], work: Work, rate: float, clock: str, warm_up: int = 1
) -> dict[str, float]:
    """Return tokens per second and other metrics over all steps except the first ones."""
    steps = found["steps"]
    kept = steps[warm_up:] or steps
    seconds, total, tokens, targets = (
        sum(each[name] for each in kept) for name in (clock, "total", "tokens", "targets")
    )
    share = tokens / sum(each["tokens"] for each in steps)
    return {
        "total": total / seconds, "tokens": tokens / seconds, "targets": targets / seconds,
        "mfu": work.total(tokens, targets, share) / seconds / rate,
        "peak": found["peak"] / 2**30, "loss": found["loss"],
    }  # fmt: skip


def profile(job: dict[str, Any], options: dict[str, Any]) -> None:
    """Print the operations of a step of xft, sorted by their own CPU time."""
    import torch

    from xft.data import Collator, EpochBatchSampler, InstructionData
    from xft.models import NF4, CausalLMConfig, LoRA, TrainingModel
    from xft.objectives import next_token
    from xft.templates import ChatTemplate
    from xft.utils.memory import tune_glibc_malloc

    spec = CausalLMConfig(job["model"], dtype=job["dtype"], **options.get("model", {}))
    quantization = NF4() if "quantization" in options else None
    tokenizer = spec.load_tokenizer()
    data = InstructionData(job["rows"], max_length=job["length"], val_split=None, num_workers=1)
    samples = data.prepare(tokenizer, ChatTemplate().bind(tokenizer)).train
    loaded = spec.load(tokenizer, torch.device("cpu"), LoRA(r=job["rank"]), quantization)
    model = TrainingModel(loaded.model, next_token).train()
    windows = EpochBatchSampler(tuple(samples.lengths.tolist()), pack_length=job["length"]).epoch(0)[:3]
    for window in windows[:2]:
        model(Collator().collate(samples, window)).loss_sum.backward()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        # The profiler resets malloc: without this line a step spends a fifth of its time in page faults.
        tune_glibc_malloc()
        model(Collator().collate(samples, windows[-1])).loss_sum.backward()
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))


def read_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", required=True, help="a JSON file of Alpaca rows")
    parser.add_argument("--count", type=int, default=96, help="number of rows to train on")
    parser.add_argument(
        "--validation", type=int, default=24, help="number of following rows to validate on"
    )
    parser.add_argument("--model", default="xft://smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--length", type=int, default=1024, help="pack_length")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument(
        "--template", default="smollm2", help="name of the model's template in LLaMA-Factory"
    )
    parser.add_argument(
        "--contestants", nargs="+", choices=CONTESTANTS, default=["xft", "xft-plain", "trl"]
    )
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="NAME=PATH", help="Python interpreter of a framework"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--profile", action="store_true", help="print the profile of a step of xft")
    parser.add_argument(
        "--docs", type=Path, help=f"write the table into this file, between {MARKS[0]} and {MARKS[1]}"
    )
    parser.add_argument("--output", type=Path, help="write the metrics of all rounds to this file as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the table."""
    arguments = read_arguments()
    pythons = dict(each.split("=", 1) for each in arguments.python)
    with tempfile.TemporaryDirectory() as name:
        job, work = prepare(arguments, Path(name))
        if arguments.profile:
            _, checkpointing, options = CONTESTANTS[arguments.contestants[0]]
            profile(
                job,
                {**options, "model": {"gradient_checkpointing": checkpointing, **options.get("model", {})}},
            )
            return
        rounds: dict[str, list[dict[str, float]]] = {each: [] for each in arguments.contestants}
        rates, versions = [], {}
        for _ in range(arguments.repeats):
            rates.append(run({**job, "kind": "matrices"}, sys.executable)["rate"])
            for each in arguments.contestants:
                kind, checkpointing, options = CONTESTANTS[each]
                mine = {**job, "kind": kind, "checkpointing": checkpointing, "options": options}
                found = run(mine, pythons.get(kind, sys.executable))
                rounds[each].append(figures(found, work, rates[-1], arguments.clock))
                versions[kind] = found["versions"]
                print(each, json.dumps(rounds[each][-1]), file=sys.stderr, flush=True)
    if arguments.output is not None:
        record = {"rates": rates, "rounds": rounds, "versions": versions}
        arguments.output.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(table(rounds, arguments.contestants[0], NOTES))
    if arguments.docs is not None:
        write_between(arguments.docs, table(rounds, arguments.contestants[0], NOTES))
    print(
        f"\nmatrix rate {statistics.median(rates) / 1e9:.0f} GFLOP/s in {arguments.dtype}; {platform.machine()}"
    )
    for kind, found in versions.items():
        print(f"{kind}: " + ", ".join(f"{name} {version}" for name, version in found.items()))


if __name__ == "__main__":
    main()
