"""Compare a DPO step of xft with TRL's DPOTrainer: tokens per second, peak memory, losses.

    python benchmarks/bench_preference.py                    # the bundled pairs, about ten minutes on two cores
    OMP_NUM_THREADS=1 python benchmarks/bench_preference.py --clock cpu     # on a machine with other load
    python benchmarks/bench_preference.py --data ../shared/data/dpo_en_demo.json --format sharegpt_preference

Both train the same LoRA (r 16, all linear layers) on the same model, in fp32 or bf16, with the same pairs in the same order and
the same number of pairs per step: AdamW at a constant learning rate, A and B in fp32, no gradient checkpointing, no
autocast (which slows TRL down on a CPU). Both compute the reference (the model without its adapter) in every step.
Each run has its own process, and the two frameworks alternate.

Tokens are those of prompts and answers, without padding. The benchmark fails if the two count different numbers in a
step. Seconds cover forward, backward and optimizer (with xft also batch and metrics), without the first steps.
Memory is the peak of the process, with Python and libraries.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from step_clock import CLOCKS, StepClock
from trl_comparison import (
    ALPHA,
    RANK,
    SIDES,
    count_tokens,
    read_lines,
    run_side,
    train_xft,
    trl_lora,
    trl_watch,
    write_figures,
)

WARM_UP = 2
BETA = 0.1
OPTIONS = ("model", "dtype", "max_length", "pairs", "steps", "lr", "clock")
CONFIG = """\
model = dict(type="causal_lm", path={model!r}, dtype={dtype!r})
adapter = dict(type="lora", r={rank}, lora_alpha={alpha})
data = dict(
    type="preference", path={train!r}, val_split={val!r}, max_length={max_length}, packing=False, cache_dir={cache!r}
)
objective = dict(type="dpo", beta={beta})
training = dict(max_steps={steps}, micro_batch_size={pairs}, max_grad_norm=1.0, min_steps_per_epoch=0)
optimizer = dict(type="adamw", lr={lr})
lr_scheduler = dict(type="constant", warmup_steps=0)
hooks = dict(
    clock=dict(type="step_clock.StepClock", clock={clock!r}),
    progress=dict(type="progress"),
    validation=dict(type="validation", interval={steps}),
)
loggers = dict(jsonl=dict(type="jsonl"))
seed = {seed}
"""


def main() -> None:
    """Alternate both frameworks and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="xft://pairs.jsonl", help="preference pairs, any data source of xft"
    )
    parser.add_argument("--format", default="preference", help="format of the rows, for pairs")
    parser.add_argument("--model", default="xft://smollm2-135m-instruct")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument(
        "--max-length", type=int, default=1024, help="maximum tokens; longer pairs are dropped for both"
    )
    parser.add_argument("--pairs", type=int, default=4, help="pairs per step")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of one run of xft and one of TRL")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first round, incremented in each round"
    )
    parser.add_argument("--part", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part = {"xft": _xft, "trl": _trl}[arguments.part]
        write_figures(arguments.folder, part(arguments.folder, arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        _compare(Path(folder), arguments)


def _compare(folder: Path, arguments: argparse.Namespace) -> None:
    read, kept, held = _write_pairs(folder, arguments)
    if kept < arguments.pairs * arguments.steps:
        needed = arguments.pairs * arguments.steps
        sys.exit(f"{kept} pairs fit; expected {needed}: reduce --steps or --pairs")
    print(f"pairs     {read} read, {read - kept - held} too long; {kept} train, {held} validation")
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(arguments.rounds):
        for side in SIDES:
            seed = arguments.seed + number
            options = {name: getattr(arguments, name) for name in OPTIONS}
            figures = run_side(__file__, side, folder / f"{side}_{seed}", {**options, "seed": seed})
            results[side].append(figures)
            memory = figures["memory"] / 2**20
            print(f"round {number + 1}   {side}  {_rate(figures):7.1f} tokens/s  {memory:,.0f} MiB")
        seen = [results[side][-1]["tokens"] for side in SIDES]
        if seen[0] != seen[1]:
            sys.exit(f"tokens per step differ between xft and TRL: {seen}")
    tokens = results["xft"][0]["tokens"][WARM_UP:]
    print(f"tokens    {min(tokens):,} to {max(tokens):,} per step\n")
    print(f"{'min / median / max over rounds':<34}{'xft':>26}{'TRL':>26}")
    for title, values in _table(results).items():
        print(f"{title:<34}" + "".join(f"{value:>26}" for value in values))
    ratio = statistics.median(map(_rate, results["xft"])) / statistics.median(map(_rate, results["trl"]))
    print(f"\nxft / TRL, medians: {ratio:.2f} in tokens per second")


def _rate(figures: dict[str, Any]) -> float:
    """Return tokens per second, without the first steps."""
    return float(sum(figures["tokens"][WARM_UP:]) / sum(figures["seconds"][WARM_UP:]))


def _table(results: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Return the printed table: by title, one text per framework."""
    rows = {
        "tokens per second": (_rate, "{:,.0f}"),
        "peak memory, MiB": (lambda figures: figures["memory"] / 2**20, "{:,.0f}"),
        "loss, step 1": (lambda figures: figures["loss"][0], "{:.4f}"),
        "loss, last four steps": (lambda figures: statistics.mean(figures["loss"][-4:]), "{:.4f}"),
        "final validation loss": (lambda figures: figures["val"], "{:.4f}"),
        "final validation accuracy": (lambda figures: figures["accuracy"], "{:.3f}"),
    }

    def spread(values: list[float], text: str) -> str:
        return " / ".join(map(text.format, (min(values), statistics.median(values), max(values))))

    return {
        title: [spread([value(figures) for figures in results[side]], text) for side in SIDES]
        for title, (value, text) in rows.items()
    }


def _write_pairs(folder: Path, arguments: argparse.Namespace) -> tuple[int, int, int]:
    """Write the pairs that fit, in a form that TRL and xft read: the last eight for validation.

    Returns:
        Number of pairs read, in training and in validation.
    """
    from xft.config.build import build_component
    from xft.data.sources import RecordReader, parse, resolve_source
    from xft.models import CausalLMConfig
    from xft.templates import ChatTemplate

    tokenizer = CausalLMConfig(arguments.model).load_tokenizer()
    template = ChatTemplate().bind(tokenizer)
    form = build_component("format", arguments.format)

    def length(messages: Sequence[Any]) -> int:
        return len(tokenizer(template.render(messages), add_special_tokens=False)["input_ids"])

    rows, read = [], 0
    for origin, raw in RecordReader(resolve_source(arguments.data), "train", 0, False):
        pair, read = form(parse(origin, raw)), read + 1
        longest = max(length([*pair.prompt, *answer]) for answer in (pair.chosen, pair.rejected))
        if longest <= arguments.max_length:
            sides = {side: getattr(pair, side) for side in ("prompt", "chosen", "rejected")}
            rows.append(
                {
                    side: [{"role": turn.role, "content": turn.content} for turn in messages]
                    for side, messages in sides.items()
                }
            )
    split = len(rows) - 8
    for name, part in (("train", rows[:split]), ("val", rows[split:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return read, split, 8


def _xft(run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run `xft train`."""
    files = {name: str(run.parent / f"{name}.jsonl") for name in ("train", "val")}
    options = {name: getattr(arguments, name) for name in (*OPTIONS, "seed")}
    text = CONFIG.format(**options, **files, rank=RANK, alpha=ALPHA, beta=BETA, cache=str(run / "cache"))
    lines = train_xft(run, text)
    train = [line for line in lines if line["split"] == "train"]
    val = [line for line in lines if line["split"] == "val"][-1]
    return {
        "loss": [line["loss"] for line in train],
        "tokens": [line["tokens"] for line in train],
        "seconds": StepClock.seconds(),
        "val": val["loss"],
        "accuracy": val["rewards/accuracies"],
    }


def _trl(run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run TRL's trainer with its own tokenization, collator and padding."""
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOTrainer

    from xft.data import EpochBatchSampler
    from xft.models.hub import resolve_path
    from xft.models.loading import load_tokenizer

    tokenizer: Any = load_tokenizer(arguments.model)
    train, val = (read_lines(run.parent / f"{name}.jsonl") for name in ("train", "val"))
    # In the order of xft.
    plan = EpochBatchSampler(
        (1,) * len(train), micro_batch_size=arguments.pairs, seed=arguments.seed
    ).epoch(0)
    figures: dict[str, Any] = {"loss": [], "tokens": [], "seconds": []}

    def on_log(logs: Any) -> None:
        if "loss" in logs:
            figures["loss"].append(float(logs["loss"]))

    trainer: Any = DPOTrainer(
        model=resolve_path(arguments.model),
        args=_dpo_config(run, arguments),
        train_dataset=Dataset.from_list([train[row] for batch in plan[: arguments.steps] for row in batch]),
        eval_dataset=Dataset.from_list(val),
        processing_class=tokenizer,
        peft_config=trl_lora("all-linear"),
        callbacks=[trl_watch(arguments.clock, figures, on_log)],
    )
    count_tokens(trainer, figures)
    trainer.train()
    figures["tokens"] = figures["tokens"][: arguments.steps]
    held = trainer.evaluate()
    return {**figures, "val": held["eval_loss"], "accuracy": held["eval_rewards/accuracies"]}


def _dpo_config(run: Path, arguments: argparse.Namespace) -> Any:
    """Return arguments of TRL's trainer that match the run of xft."""
    from trl.trainer.dpo_config import DPOConfig

    # Weights have their dtype already; bf16=True would add autocast, which only takes time.
    return DPOConfig(
        output_dir=str(run / "trl"), model_init_kwargs={"dtype": arguments.dtype}, max_steps=arguments.steps,
        per_device_train_batch_size=arguments.pairs, per_device_eval_batch_size=arguments.pairs,
        learning_rate=arguments.lr, lr_scheduler_type="constant", beta=BETA, max_length=arguments.max_length,
        max_grad_norm=1.0, gradient_checkpointing=False, train_sampling_strategy="sequential", use_cpu=True,
        bf16=False, logging_steps=1, save_strategy="no", report_to=[], seed=arguments.seed, disable_tqdm=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
