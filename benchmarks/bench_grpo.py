"""Compare a GRPO step of xft with TRL's GRPOTrainer: seconds per step, generated tokens per second.

    python benchmarks/bench_grpo.py                          # about ten minutes on two cores
    OMP_NUM_THREADS=1 python benchmarks/bench_grpo.py --clock cpu     # on a machine with other load

Both train the same LoRA (r 16, all linear layers) on the same model, in fp32 or bf16, with the same prompts and reward: in each
step 8 prompts, 4 completions of at most 32 tokens, temperature 1, one AdamW step, no KL. A and B are in fp32, no
gradient checkpointing, no autocast (which slows TRL down on a CPU). The tokens differ, since each samples with its own
random numbers; the table has the mean length. Each run has its own process, and the two frameworks alternate. A step
is sampling, rewards, forward, backward and optimizer, without the first steps.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from step_clock import CLOCKS, StepClock
from trl_comparison import (
    ALPHA,
    RANK,
    SIDES,
    read_lines,
    run_side,
    train_xft,
    trl_lora,
    trl_watch,
    write_figures,
)

WARM_UP = 1
OPTIONS = ("model", "dtype", "prompts", "generations", "tokens", "steps", "lr", "clock")
CONFIG = """\
model = dict(type="causal_lm", path={model!r}, dtype={dtype!r})
adapter = dict(type="lora", r={rank}, lora_alpha={alpha}, lora_dropout=0.0)
data = dict(type="prompt", path={rows!r}, max_length=512, val_split=None, cache_dir={cache!r})
objective = dict(type="grpo")
rewards = dict(letters=dict(type="bench_grpo.letters_reward"))
rollout = dict(num_generations={generations}, max_new_tokens={tokens})
training = dict(max_steps={steps}, micro_batch_size={prompts}, max_grad_norm=1.0, min_steps_per_epoch=0)
optimizer = dict(type="adamw", lr={lr})
lr_scheduler = dict(type="constant", warmup_steps=0)
hooks = dict(clock=dict(type="step_clock.StepClock", clock={clock!r}), progress=dict(type="progress"))
loggers = dict(jsonl=dict(type="jsonl"))
seed = {seed}
"""


def main() -> None:
    """Alternate both frameworks and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="xft://smollm2-135m-instruct")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="float32")
    parser.add_argument("--prompts", type=int, default=8, help="prompts per step")
    parser.add_argument("--generations", type=int, default=4, help="completions per prompt")
    parser.add_argument("--tokens", type=int, default=32, help="largest number of tokens of a completion")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of one run of xft and one of TRL")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round")
    parser.add_argument("--part", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part = {"xft": _xft, "trl": _trl}[arguments.part]
        write_figures(arguments.folder, part(arguments.folder, arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        _compare(Path(folder), arguments)


def letters(text: str) -> float:
    """Return the reward: the number of distinct characters, which differs within almost every group."""
    return float(len(set(text)))


def letters_reward(completion: Any, row: Any) -> float:
    """Return :func:`letters` of a completion, as a reward of xft."""
    return letters(completion.text)


def _compare(folder: Path, arguments: argparse.Namespace) -> None:
    _write_prompts(folder, arguments.prompts * arguments.steps)
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(arguments.rounds):
        for side in SIDES:
            seed = arguments.seed + number
            options = {name: getattr(arguments, name) for name in OPTIONS}
            figures = run_side(__file__, side, folder / f"{side}_{seed}", {**options, "seed": seed})
            results[side].append(figures)
            print(
                f"round {number + 1}   {side}   {_seconds(figures):6.2f} s per step   {_length(figures):5.1f} tokens per "
                "completion",
                flush=True,
            )
    xft, trl = (statistics.median(map(_seconds, results[side])) for side in SIDES)
    parts = " + ".join(
        f"{statistics.median(statistics.median(figures[name][WARM_UP:]) for figures in results['xft']):.2f} s {name}"
        for name in ("sampling", "training")
    )
    print(
        f"\nmedians: xft {xft:.2f} s ({parts}, wall), TRL {trl:.2f} s per step; TRL / xft: {trl / xft:.2f}"
    )
    gaps = [gap for figures in results["xft"] for gap in figures["gap"]]
    print(
        f"mean difference of log-probabilities of sampler and trainer (xft): at most {max(gaps):.1e} per step"
    )
    rates = [
        statistics.median(_length(figures) / _seconds(figures) for figures in results[side])
        for side in SIDES
    ]
    print(f"generated tokens per second, xft / TRL: {rates[0] / rates[1]:.2f}")


def _seconds(figures: dict[str, Any]) -> float:
    return statistics.median(figures["seconds"][WARM_UP:])


def _length(figures: dict[str, Any]) -> float:
    return statistics.mean(figures["lengths"][WARM_UP:])


def _write_prompts(folder: Path, count: int) -> None:
    from xft.data.sources import RecordReader, parse, resolve_source

    rows = [
        {"prompt": parse(origin, raw)["prompt"]}
        for origin, raw in RecordReader(resolve_source("xft://pairs.jsonl"), "train", 0, False)
    ]
    rows = (rows * (1 + count // len(rows)))[:count]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _xft(run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run `xft train`."""
    text = CONFIG.format(
        **{name: getattr(arguments, name) for name in (*OPTIONS, "seed")},
        rows=str(run.parent / "prompts.jsonl"),
        rank=RANK,
        alpha=ALPHA,
        cache=str(run / "cache"),
    )
    train = [line for line in train_xft(run, text) if line["split"] == "train"]
    return {
        "seconds": StepClock.seconds(),
        "lengths": [line["completions/mean_length"] for line in train],
        "sampling": [line["rollout_seconds"] for line in train],
        "training": [line["train_seconds"] for line in train],
        "gap": [line["sampling_gap"] for line in train],
    }


def _trl(run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run TRL's trainer, with generation by transformers."""
    from datasets import Dataset
    from trl.trainer.grpo_trainer import GRPOTrainer

    from xft.models.hub import resolve_path
    from xft.models.loading import load_tokenizer

    tokenizer: Any = load_tokenizer(arguments.model)
    prompts = [line["prompt"] for line in read_lines(run.parent / "prompts.jsonl")]
    rows = [{"prompt": [{"role": "user", "content": prompt}]} for prompt in prompts]
    figures: dict[str, Any] = {"seconds": [], "lengths": []}

    def on_log(logs: Any) -> None:
        if "completions/mean_length" in logs:
            figures["lengths"].append(float(logs["completions/mean_length"]))

    def reward(completions: Any, **columns: Any) -> list[float | None]:
        return [letters(completion[0]["content"]) for completion in completions]

    trainer: Any = GRPOTrainer(
        model=resolve_path(arguments.model),
        reward_funcs=reward,
        args=_grpo_config(run, arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=trl_lora("all-linear"),
        callbacks=[trl_watch(arguments.clock, figures, on_log)],
    )
    trainer.train()
    return figures


def _grpo_config(run: Path, arguments: argparse.Namespace) -> Any:
    """Return arguments of TRL's trainer that match the run of xft."""
    from trl.trainer.grpo_config import GRPOConfig

    # Weights have their dtype already; bf16=True would add autocast, which only takes time.
    return GRPOConfig(
        output_dir=str(run / "trl"), model_init_kwargs={"dtype": arguments.dtype}, max_steps=arguments.steps,
        per_device_train_batch_size=arguments.prompts * arguments.generations, steps_per_generation=1,
        num_generations=arguments.generations, max_completion_length=arguments.tokens, temperature=1.0, beta=0.0,
        learning_rate=arguments.lr, lr_scheduler_type="constant", max_grad_norm=1.0, gradient_checkpointing=False,
        use_cpu=True, bf16=False, logging_steps=1, save_strategy="no", report_to=[], seed=arguments.seed,
        disable_tqdm=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
