"""Check the kernels on a GPU, and measure LoRA, QLoRA and full training of large models with random weights.

    make gpu                                        # one GPU of 80 GB
    make gpu ARGS="--docs docs/performance.md"      # writes the table
    python benchmarks/bench_gpu.py --runs 8b-lora --frameworks xft
    python benchmarks/bench_gpu.py --runs tiny-lora tiny-full --dtype float32       # tries the script, also without a GPU

Nothing is downloaded: weights are random, in the shapes of Llama 3, and rows are random words. xft and TRL pack rows to
--length tokens; unsloth packs where it supports it. xft-compiled is xft with model.torch_compile=True. TRL
takes Liger's kernels, and FlashAttention if it is installed: without it, its packed samples attend to each other.
Frameworks that are not installed are left out. Each run has a process of its own, without gradient checkpointing. Seconds
cover a whole step, and the first steps are not counted.

MFU is the rate of the counted operations (`benchmark.py`) divided by the dense bf16 rate that the vendor states, or by that
of a large product if the GPU is not in the list below. Memory is that of tensors at its peak.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench_table import write_between
from benchmark import Work, count_work, figures, run

ROOT = Path(__file__).resolve().parent.parent
MARKS = ("<!-- gpu -->", "<!-- end of gpu -->")
LLAMA = {
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rope_theta": 500000.0,
    "max_position_embeddings": 8192,
}
SHAPES: dict[str, dict[str, Any]] = {
    "8b": {
        **LLAMA,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "1b": {
        **LLAMA,
        **{
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
        },
        "tie_word_embeddings": True,
    },
    "tiny": {
        **{"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "vocab_size": 49152, "tie_word_embeddings": True},
    },
}
RUNS = ("8b-lora", "8b-qlora", "1b-lora", "1b-full", "tiny-lora", "tiny-qlora", "tiny-full")
"""Shape and method."""
OPTIONS: dict[str, dict[str, Any]] = {
    "xft": {},
    "xft-compiled": {"model": {"torch_compile": True}},
    "trl": {"packing": True, "per_device_train_batch_size": 1, "use_liger_kernel": True},
    "unsloth": {"packing": True, "per_device_train_batch_size": 1},
}
NEEDS = {"xft": (), "xft-compiled": (), "trl": ("trl", "liger_kernel"), "unsloth": ("unsloth",)}
"""Packages of a framework."""
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}
"""Dense bf16 FLOP/s with sums in fp32, from the vendor's data sheets."""
WARM_UP = 3


def write_rows(file: Path, length: int, steps: int) -> None:
    """Write Alpaca rows of random words, for about ``steps`` packed sequences of ``length`` tokens."""
    generator = random.Random(0)
    syllables = [first + second for first in "bdfgklmnprstv" for second in ("a", "e", "i", "o", "u")]
    words = ["".join(generator.choices(syllables, k=generator.randint(1, 3))) for _ in range(2000)]

    def text(number: int) -> str:
        return " ".join(generator.choices(words, k=number))

    rows, count = [], 0
    while count < length * steps:
        number = generator.randint(length // 100, length // 6)
        rows.append({"instruction": text(10), "input": "", "output": text(number)})
        count += 2 * (number + 10)  # a word has two tokens or more
    file.write_text(json.dumps(rows), encoding="utf-8")


def write_model(folder: Path, shape: str) -> Any:
    """Write a model with random weights in bf16. Return its config."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from xft.models.loading import load_tokenizer

    tokenizer: Any = load_tokenizer("xft://smollm2-135m-instruct")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = LlamaConfig(**SHAPES[shape], **ids, dtype=torch.bfloat16)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return config


def operations(config: Any, job: dict[str, Any]) -> Work:
    """Count the operations of an epoch, with the lengths of the samples of xft."""
    import torch
    from transformers import LlamaForCausalLM

    from xft.data import InstructionData
    from xft.models.loading import load_tokenizer
    from xft.templates import ChatTemplate

    tokenizer = load_tokenizer(job["model"])
    data = InstructionData(job["rows"], max_length=job["length"], val_split=None)
    lengths = data.prepare(tokenizer, ChatTemplate().bind(tokenizer)).train.lengths.tolist()
    with torch.device("meta"):
        model = LlamaForCausalLM._from_config(config)
    return count_work(model, job["rank"], lengths, full=job["tuning"] == "full")


def measure(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Run all jobs. Return the lines of the table."""
    frameworks = [name for name in arguments.frameworks if all(find_spec(need) for need in NEEDS[name])]
    for name in sorted({*arguments.frameworks} - {*frameworks}):
        print(f"{name} is left out: {' or '.join(NEEDS[name])} is not installed", file=sys.stderr)
    write_rows(folder / "rows.json", arguments.length, arguments.steps + WARM_UP)
    shared = {
        **{
            "rows": str(folder / "rows.json"),
            "validation": [],
            "length": arguments.length,
            "rank": 16,
            "lr": 1e-4,
        },
        **{"dtype": arguments.dtype, "clock": "wall", "save": False, "checkpointing": False},
    }
    name, peak = gpu()
    # A CPU without bf16 units is slow, and only tries this script.
    rate = run({**shared, "kind": "matrices", "size": 256 if peak is None else 8192}, sys.executable)[
        "rate"
    ]
    print(f"{name}: {rate / 1e12:.1f} TFLOP/s in a large bf16 product", file=sys.stderr)
    lines = [
        f"{name}, packed to {arguments.length} tokens, {rate / 1e12:.0f} TFLOP/s in a large bf16 product",
        "",
        "| model | framework | tokens/s | MFU | peak GiB |",
        "|---|---|--:|--:|--:|",
    ]
    configs: dict[str, Any] = {}
    versions: dict[str, dict[str, str]] = {}
    for kind in arguments.runs:
        shape, tuning = kind.split("-")
        model = folder / shape
        if shape not in configs:
            configs[shape] = write_model(model, shape)
        job = {**shared, "model": str(model), "tuning": tuning}
        work = operations(configs[shape], job)
        for framework in frameworks:
            rounds = []
            for _ in range(arguments.rounds):
                result = run(
                    {**job, "kind": framework.partition("-")[0], "options": OPTIONS[framework]},
                    sys.executable,
                )
                rounds.append(figures(result, work, peak or rate, "wall", WARM_UP))
                versions[framework] = result["versions"]
            tokens, mfu, memory = (
                statistics.median(figure[key] for figure in rounds) for key in ("tokens", "mfu", "peak")
            )
            lines.append(f"| {shape}, {tuning} | {framework} | {tokens:,.0f} | {mfu:.0%} | {memory:.1f} |")
            print(lines[-1], file=sys.stderr, flush=True)
    lines.append("")
    for framework, packages in versions.items():
        lines.append(
            f"{framework}: " + ", ".join(f"{package} {number}" for package, number in packages.items())
        )
    return lines


def gpu() -> tuple[str, float | None]:
    """Return the name of the device, and its rate by ``PEAKS``."""
    import torch

    if not torch.cuda.is_available():
        return "CPU", None
    name = torch.cuda.get_device_name()
    return name, next((peak for part, peak in PEAKS.items() if part in name), None)


def main() -> int:
    """Test the kernels, measure, and print or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS[:4])
    parser.add_argument("--frameworks", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--length", type=int, default=4096, help="tokens of a packed row, one per step")
    parser.add_argument("--steps", type=int, default=15, help="steps that are counted")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--docs", type=Path, help=f"write the table into this file, after {MARKS[0]}")
    parser.add_argument("--no-tests", action="store_true", help="do not run tests/gpu before")
    arguments = parser.parse_args()
    if (
        gpu()[1] is None
        and gpu()[0] == "CPU"
        and any(not name.startswith("tiny") for name in arguments.runs)
    ):
        print("no GPU is available: nothing was measured", file=sys.stderr)
        return 1
    if not arguments.no_tests:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", str(ROOT / "tests" / "gpu")]
        if (code := subprocess.run(command, cwd=ROOT, check=False).returncode) != 0:
            return code
    with tempfile.TemporaryDirectory() as name:
        lines = measure(arguments, Path(name))
    print("\n".join(lines))
    if arguments.docs is not None:
        write_between(arguments.docs, "\n".join(lines), MARKS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
