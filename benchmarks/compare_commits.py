"""Compare two checkouts bit for bit: training curves, saved weights, greedy answers, token ids and labels.

    git worktree add /tmp/base COMMIT
    python benchmarks/compare_commits.py /tmp/base               # everything, about 15 minutes on two cores
    python benchmarks/compare_commits.py /tmp/base --only labels sft dpo

Both checkouts run with this Python, on this machine, one after the other for each case, so that neither the
library versions nor the CPU can explain a difference. A case is equal if every number is equal to the last bit:
loss and gradient norm of 20 steps in fp32, every tensor of the saved model, every generated answer.
``labels`` compares ``input_ids`` and ``labels`` of 500 rows for each chat template and tokenizer.

Keys that were renamed between the two commits are translated (``RENAMED``): a checkout gets the new key if its
source knows the key. Exits with 1 if anything differs.
"""

import argparse
import ast
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parent / "shared"
STEPS = 20

RENAMED = {
    "micro_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulation",
    "max_steps": "steps",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "val_split": "val",
    "on_invalid": "invalid",
    "eval_prompts": "questions",
    "sample_generation": "questions",
    "training_health": "guards",
    "mode": "how",
    "peak_memory_bytes": "memory",
    "zero_stage": "zero",
    "num_workers": "workers",
    "unpaired_preference": "judged",
    "max_grad_norm": "clip",
    "double_quant": "double",
    "--nproc-per-node": "--num-devices",
    "--sequence-parallel-size": "--sequence-parallel",
}
"""New name → name before the public names were aligned with the field's."""

LORA = {"type": "lora", "r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
INSTRUCTION = {"type": "instruction", "format": "alpaca", "max_length": 128, "val_split": 4}
PREFERENCE = {"type": "preference", "format": "preference", "max_length": 128, "val_split": 4}
UNPAIRED = {"type": "unpaired_preference", "format": "kto", "max_length": 128, "val_split": 4}

LABEL_SOURCES = {
    "en": ("alpaca_en_demo.json", "alpaca"),
    "zh": ("alpaca_zh_demo.json", "alpaca"),
    "tools": ("glaive_toolcall_en_demo.json", "sharegpt"),
}
"""Data sets whose rows are encoded: file, and format."""

CASES: dict[str, dict[str, Any]] = {
    "sft": {"data": {**INSTRUCTION, "packing": True}},
    "sft_2_ranks": {"data": {**INSTRUCTION, "packing": True}, "ranks": 2},
    "qlora": {
        "data": {**INSTRUCTION, "packing": True},
        "quantization": {"type": "nf4", "double_quant": True},
    },
    "full": {"data": INSTRUCTION, "adapter": None},
    "full_2_ranks": {"data": INSTRUCTION, "adapter": None, "ranks": 2},
    "dpo": {"data": PREFERENCE, "objective": "dpo"},
    "dpo_2_ranks": {"data": PREFERENCE, "objective": "dpo", "ranks": 2},
    "orpo": {"data": PREFERENCE, "objective": "orpo"},
    "kto": {"data": UNPAIRED, "objective": "kto"},
    "reward": {"data": PREFERENCE, "objective": "reward", "model": "reward_model"},
    "zero_3": {"data": INSTRUCTION, "adapter": None, "ranks": 2, "options": ["--deepspeed", "zero3"]},
    "sequence_parallel": {
        "data": {**INSTRUCTION, "packing": True},
        "ranks": 2,
        "options": ["--sequence-parallel-size", "2"],
    },
}
"""Small runs of a randomly initialized Llama with two layers."""


@cache
def _names(checkout: Path) -> tuple[frozenset[str], bool]:
    """Return the config keys, type names and options of a checkout, and whether ``adapter`` is a top-level key."""
    names: set[str] = set()
    adapter_on_top = False
    for file in sorted((checkout / "xft").rglob("*.py")):
        if file.stem == "foreign_keys":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                fields = {
                    field.target.id
                    for field in node.body
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                }
                names |= fields
                adapter_on_top |= {"optimizer", "data", "adapter"} <= fields
            elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
                names.update(argument.arg for argument in (*node.args.args, *node.args.kwonlyargs))
            elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
                "register",
                "add_argument",
            ):
                names.update(
                    str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)
                )
    return frozenset(names), adapter_on_top


def spell(checkout: Path, name: str) -> str:
    """Return ``name`` as the checkout spells it."""
    return name if name not in RENAMED or name in _names(checkout)[0] else RENAMED[name]


def translate(checkout: Path, value: Any) -> Any:
    """Return a config section with keys and type names as the checkout spells them."""
    if isinstance(value, dict):
        return {
            spell(checkout, key): spell(checkout, item) if key == "type" else translate(checkout, item)
            for key, item in value.items()
        }
    return value


def write_config(checkout: Path, folder: Path, case: dict[str, Any]) -> Path:
    """Write the config of a case for a checkout."""
    model: dict[str, Any] = {
        "type": case.get("model", "causal_lm"),
        "path": str(folder / "model"),
        "dtype": "float32",
    }
    parts = {"adapter": case.get("adapter", LORA), "quantization": case.get("quantization")}
    reward = case.get("model") == "reward_model"
    sections: dict[str, Any] = {
        "model": model,
        **parts,
        "data": {**case["data"], "path": str(folder / f"{case['data']['type']}.jsonl")},
        "objective": case.get("objective", "sft"),
        "training": {
            "max_steps": STEPS,
            "micro_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "min_steps_per_epoch": 0,
        },
        "optimizer": {"type": "adamw", "lr": 1e-3},
        "hooks": {
            "validation": {"type": "validation", "interval": 10},
            "progress": {"type": "progress"},
            "checkpoint": {"type": "checkpoint"},
            **({} if reward else {"sample_generation": {"type": "sample_generation", "max_new_tokens": 8}}),
        },
        "loggers": {"jsonl": {"type": "jsonl"}},
        "eval_prompts": [] if reward else ["Say number 3", "Who are you?"],
    }
    if sections["objective"] == "sft":
        del sections["objective"]
    if not _names(checkout)[1]:
        model.update(translate(checkout, {key: sections.pop(key) for key in parts}))
    text = "".join(f"{key} = {value!r}\n" for key, value in translate(checkout, sections).items())
    config = folder / f"{checkout.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.py"
    config.write_text(text, encoding="utf-8")
    return config


def write_inputs(folder: Path) -> None:
    """Write a model with random weights, a tokenizer with one token per byte, and rows of each kind."""
    import torch
    from tiny_run import write_inputs as write_tiny

    torch.manual_seed(0)
    write_tiny(
        folder,
        folder / "unused.py",
        True,
        {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    )

    def write(name: str, make: Callable[[int], dict[str, Any]]) -> None:
        rows = "".join(json.dumps(make(i)) + "\n" for i in range(60))
        (folder / f"{name}.jsonl").write_text(rows)

    def prompt(i: int) -> str:
        return f"Say number {i} {'please ' * (i % 5)}"

    write(
        "instruction", lambda i: {"instruction": prompt(i), "output": f"Number {i} {'is good ' * (i % 7)}"}
    )
    write(
        "preference",
        lambda i: {"prompt": prompt(i), "chosen": f"Number {i}.", "rejected": f"No {'way ' * (i % 4 + 1)}"},
    )
    write(
        "unpaired_preference",
        lambda i: {"prompt": prompt(i), "completion": f"Number {i}", "label": i % 2 == 0},
    )


def run(checkout: Path, arguments: list[str], code: str | None = None) -> str:
    """Run a command of a checkout, in a process of its own.

    Raises:
        RuntimeError: The command failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [
        sys.executable,
        "-c",
        code or "import sys; from xft.cli import main; sys.exit(main())",
        *arguments,
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=checkout
    )
    if result.returncode:
        raise RuntimeError(
            f"{' '.join(arguments)} failed in {checkout}:\n{result.stdout[-1500:]}\n{result.stderr[-3000:]}"
        )
    return result.stdout


def read_run(folder: Path) -> dict[str, Any]:
    """Return the numbers of a run: curves, validation losses, answers, and a digest of every saved tensor."""
    from safetensors import safe_open

    numbers: dict[str, Any] = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        for key in ("loss", "grad_norm"):
            if key in record:
                numbers[f"{record['split']} {record['step']} {key}"] = record[key]
    for name in ("generations.jsonl", "samples.jsonl"):
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
            numbers["answers"] = [json.loads(line)["answer"] for line in lines]
    for file in sorted((folder / "final").glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                tensor = tensors.get_tensor(name).contiguous()
                numbers[f"{file.name} {name}"] = hashlib.sha256(
                    bytes(tensor.untyped_storage())
                ).hexdigest()[:16]
    return numbers


def train_case(checkout: Path, inputs: Path, name: str) -> dict[str, Any]:
    """Train one case in one checkout."""
    case, folder = CASES[name], inputs / f"run-{checkout.name}-{name}"
    options = [spell(checkout, option) for option in case.get("options", [])]
    if case.get("ranks"):
        options += [spell(checkout, "--nproc-per-node"), str(case["ranks"])]
    run(checkout, ["train", str(write_config(checkout, inputs, case)), "--work-dir", str(folder), *options])
    return read_run(folder)


def demo(checkout: Path, inputs: Path) -> dict[str, Any]:
    """Train the demo for 20 steps, and return its numbers and greedy answers."""
    folder = inputs / f"run-{checkout.name}-demo"
    overrides = [f"training.{spell(checkout, 'max_steps')}={STEPS}"]
    run(
        checkout,
        ["train", "configs/smollm2_lora.py", "--work-dir", str(folder), "--cfg-options", *overrides],
    )
    return read_run(folder)


LABELS = """
import contextlib, hashlib, io, json, sys
from functools import cache
import numpy as np
import transformers
from xft.cli import main
load = cache(transformers.AutoTokenizer.from_pretrained)  # most of the time of a command
transformers.AutoTokenizer.from_pretrained = lambda *args, **kwargs: load(*args, **kwargs)
digests = {}
for name, config in json.load(open(sys.argv[1])).items():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["inspect-data", config, "--json", "--num", "100000"])
    digest, count = hashlib.sha256(), 0
    for line in out.getvalue().splitlines():
        sample = json.loads(line)
        for part in ("input_ids", "labels"):
            digest.update(np.array([len(sample[part]), *sample[part]], dtype="<i4").tobytes())
        count += 1
    digests[name] = f"{code} {count} {digest.hexdigest()[:16]}"
json.dump(digests, open(sys.argv[2], "w"))
"""


def tokenizers(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and path of each tokenizer at hand."""
    yield "smollm2", "xft://smollm2-135m-instruct"
    for name in ("qwen3", "llama3"):
        if (SHARED / "tokenizers" / name).is_dir():
            yield name, str(SHARED / "tokenizers" / name)
    source = SHARED / "tokenizers" / "internlm2" / "tokenizer.model"
    if source.is_file():
        from transformers import LlamaTokenizer

        target = folder / "internlm2"
        target.mkdir()
        (target / "tokenizer.model").write_bytes(source.read_bytes())
        tokenizer = LlamaTokenizer.from_pretrained(target, add_prefix_space=False)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(target)
        yield "internlm2", str(target)


def labels(checkout: Path, inputs: Path, rows: tuple[int, int, int] = (200, 200, 100)) -> dict[str, Any]:
    """Return a digest of ids and labels for each template, tokenizer and data set.

    Args:
        rows: numbers of rows of English and Chinese single turns, and of conversations with tool calls.
    """
    listing = run(checkout, [], "from xft.templates import SOURCES; print(*SOURCES)").split()
    folder = Path(tempfile.mkdtemp(dir=inputs))
    jobs = {}
    for tokenizer, path in tokenizers(folder):
        for template in ["auto", *listing]:
            if template == "auto" and tokenizer == "internlm2":
                continue
            for (kind, (file, row_format)), count in zip(LABEL_SOURCES.items(), rows, strict=True):
                data = {
                    "type": "instruction",
                    "path": f"{SHARED / 'data' / file}#{count}",
                    "format": row_format,
                    "max_length": 16384,
                    "val_split": None,
                    "on_invalid": "quarantine",
                    "num_workers": 1,
                }
                sections = {
                    "model": {"type": "causal_lm", "path": path},
                    "template": template,
                    "data": data,
                }
                config = folder / f"{tokenizer}-{template}-{kind}.py"
                lines = [f"{key} = {value!r}\n" for key, value in translate(checkout, sections).items()]
                config.write_text("".join(lines))
                jobs[f"{tokenizer} {template} {kind}"] = str(config)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    run(checkout, [str(folder / "jobs.json"), str(folder / "out.json")], LABELS)
    result: dict[str, Any] = json.loads((folder / "out.json").read_text())
    if not any(digest.startswith("0 ") for digest in result.values()):
        raise RuntimeError(f"no rows were encoded; is there data in {SHARED}?")
    return result


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return one line for each number that differs."""
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {before.get(key)} → {after.get(key)}" for key in keys if before.get(key) != after.get(key)
    ]


def main() -> int:
    """Compare the checkouts. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path, help="checkout to compare with")
    names = ["labels", "demo", *CASES]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="CASE", help=" ".join(names)
    )
    parser.add_argument("--out", type=Path, help="write the numbers of the base as JSON")
    parser.add_argument("--reuse", type=Path, help="numbers of the base, written by --out on this machine")
    parser.add_argument(
        "--digests", type=Path, help="write label digests of the base, as tests/parity reads them"
    )
    arguments = parser.parse_args()
    base, failed = arguments.base.resolve(), 0
    numbers: dict[str, Any] = json.loads(arguments.reuse.read_text()) if arguments.reuse else {}
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch)
        os.environ["XFT_CACHE"] = str(inputs / "cache")
        models = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "xft" / "models"
        (inputs / "cache").mkdir()
        if models.is_dir():
            (inputs / "cache" / "models").symlink_to(models)
        write_inputs(inputs)
        if arguments.digests:
            small = labels(base, inputs, rows=(20, 20, 10))
            arguments.digests.write_text(json.dumps(small, indent=0) + "\n")
        cases = {"labels": labels, "demo": demo}
        for name in arguments.only:
            measure = cases.get(name, partial(train_case, name=name))
            if name not in numbers:
                numbers[name] = measure(base, inputs)
            before, after = numbers[name], measure(HERE, inputs)
            lines = differences(before, after)
            failed += bool(lines)
            print(f"{name:18} {len(before):5} numbers  {'DIFFERENT' if lines else 'bit-equal'}", flush=True)
            for line in lines[:8]:
                print(f"    {line}")
    if arguments.out:
        arguments.out.write_text(json.dumps(numbers, indent=1))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
