"""xft beside others: the same rows and the same model, in turns, each in a process of its own.

    python benchmarks/benchmark.py --rows alpaca.json --contestants xft xft-plain trl
    python benchmarks/benchmark.py --rows alpaca.json --python llamafactory=/path/to/its/python --repeats 3
    python benchmarks/benchmark.py --rows alpaca.json --profile        # where a step of xft spends its time

Every round runs all contestants one after the other, so that a machine which others use too is as slow for
each; what counts are the ratios within a round. On a machine with more work than cores, `--clock cpu` with
OMP_NUM_THREADS=1 in the environment takes the processor's time in place of the wall's. All train an epoch of the same rows with LoRA on all
linear layers at a constant rate. The first step is left out of the times. MFU is the share of the rate of a
large matrix product, measured in each round, that the counted operations of the model take: the products
of the layers and adapters for each token that is not padding, of the head for each trained one, and of
attention within a sample; what is computed twice counts once.
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
    "trl-packed": ("trl", False, {"packing": True, "per_device_train_batch_size": 1}),
    "unsloth": ("unsloth", False, {"per_device_train_batch_size": 1}),
    "unsloth-checkpointing": ("unsloth", True, {"per_device_train_batch_size": 1}),
    "unsloth-compiled": ("unsloth", False, {"per_device_train_batch_size": 1, "compile": True}),
    "llamafactory": ("llamafactory", False, {"packing": True, "neat_packing": True}),
    "llamafactory-checkpointing": ("llamafactory", True, {"packing": True, "neat_packing": True}),
}
"""Name: program, gradient checkpointing, options of its own."""

NOTES = {
    "xft": "packed, isolated",
    "xft-checkpointing": "… with gradient checkpointing",
    "xft-plain": "… `model.fused_kernels=False`: plain transformers, peft and torch",
    "xft-qlora": "… base in NF4",
    "trl": "as it comes: not packed, 8 rows a batch, checkpointing",
    "trl-packed": "packed; samples see each other without FlashAttention",
    "unsloth": "one row a batch, not packed (on a CPU it turns packing off)",
    "unsloth-checkpointing": "… with gradient checkpointing, as it comes",
    "unsloth-compiled": "… each layer by torch.compile; the first step, which compiles, is not counted",
    "llamafactory": "`neat_packing`, isolated",
    "llamafactory-checkpointing": "… with gradient checkpointing",
}


@dataclass(frozen=True)
class Work:
    """The operations of one pass over the rows, forward and backward.

    Attributes:
        per_token: of each token that is not padding.
        per_target: of each trained token.
        attention: of all samples together.
    """

    per_token: float
    per_target: float
    attention: float

    def total(self, tokens: float, targets: float, share: float) -> float:
        """Operations of so many tokens, which are ``share`` of the rows."""
        return self.per_token * tokens + self.per_target * targets + self.attention * share


def count_work(model: Any, rank: int, lengths: list[int]) -> Work:
    """Count the operations of a frozen base and its adapters: 2 for a weight and a token each time."""
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
        # The base gives an output and passes a gradient on; an adapter learns besides.
        per_token=4.0 * base + 6.0 * adapters,
        per_target=4.0 * head.in_features * head.out_features,
        attention=3 * 4.0 * pairs * width * config.num_hidden_layers,
    )


def prepare(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Work]:
    """Write the rows, encode those that are validated on, and count the work.

    Returns:
        What all jobs have in common, and the work of a pass.
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
        "template": arguments.template, "clock": arguments.clock,
    }  # fmt: skip
    return job, count_work(model, arguments.rank, encoded[0].lengths.tolist())


def run(job: dict[str, Any], python: str) -> dict[str, Any]:
    """Run a job in a process, in a folder that is removed.

    Raises:
        SystemExit: it failed; what it said last is printed.
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


def figures(found: dict[str, Any], work: Work, rate: float, clock: str) -> dict[str, float]:
    """Tokens a second and the like, over all steps but the first."""
    steps = found["steps"]
    kept = steps[1:] or steps
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
    """Print the operations of a step of xft by the time that they take themselves."""
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
        # The profiler undoes it: without this line a step spends a fifth of its time in page faults.
        tune_glibc_malloc()
        model(Collator().collate(samples, windows[-1])).loss_sum.backward()
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))


def read_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", required=True, help="a JSON file of Alpaca rows")
    parser.add_argument("--count", type=int, default=96, help="rows to train on")
    parser.add_argument("--validation", type=int, default=24, help="rows behind those, to validate on")
    parser.add_argument("--model", default="xft://smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--length", type=int, default=1024, help="pack_length")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument(
        "--template", default="smollm2", help="what LLaMA-Factory calls the model's template"
    )
    parser.add_argument(
        "--contestants", nargs="+", choices=CONTESTANTS, default=["xft", "xft-plain", "trl"]
    )
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="NAME=PATH", help="the interpreter of a program"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--profile", action="store_true", help="where a step of xft spends its time")
    parser.add_argument(
        "--docs", type=Path, help=f"write the table into this file, between {MARKS[0]} and {MARKS[1]}"
    )
    parser.add_argument("--output", type=Path, help="write every figure of every round here, as JSON")
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
