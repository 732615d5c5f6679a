"""Train SmolLM2-135M on one-digit sums by reward alone, and count the held-out sums that it answers greedily.

python benchmarks/bench_sums.py --seeds 0 1 2
python benchmarks/bench_sums.py --objective best_of_n

The model sees 61 of the 81 sums, never an answer; 20 are held out. Exits with 1 if a seed ends below --minimum.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SYSTEM = "Answer with the number only."
HELD_OUT = 20


def write_sums(folder: Path) -> tuple[Path, Path]:
    """Write training prompts, and held-out questions with their answers; the same in every run."""
    pairs = [(a, b) for a in range(1, 10) for b in range(1, 10)]
    random.Random(0).shuffle(pairs)
    rows = [{"prompt": f"What is {a} + {b}?", "reference": str(a + b)} for a, b in pairs]
    train, questions = folder / "sums.jsonl", folder / "questions.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows[HELD_OUT:]), encoding="utf-8")
    held_out = [
        {"system": SYSTEM, "question": row["prompt"], "reference": row["reference"], "scorer": "contains"}
        for row in rows[:HELD_OUT]
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in held_out), encoding="utf-8")
    return train, questions


def run(objective: str, seed: int, steps: int, extra: list[str]) -> dict[str, Any]:
    """Train once. Returns the numbers of right answers before and after, the steps and the seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, questions = write_sums(folder)
        options = [
            f"objective.type={objective!r}",
            f"data.path={str(train)!r}",
            f"data.format.system_text={SYSTEM!r}",
            "data.val_split=None",
            f"eval_prompts={str(questions)!r}",
            "rewards.structured=None",
            "rewards.number={'type': 'number'}",
            "rollout.num_generations=4",
            "rollout.max_new_tokens=16",
            "training.micro_batch_size=8",
            f"training.max_steps={steps}",
            "training.min_steps_per_epoch=0",
            "optimizer.lr=4e-4",
            f"hooks.sample_generation.interval={steps}",
            "hooks.sample_generation.max_new_tokens=16",
            f"seed={seed}",
            *extra,
        ]
        command = [sys.executable, "-m", "xft", "train", str(ROOT / "configs" / "smollm2_grpo.py")]
        started = time.perf_counter()
        subprocess.run(
            [*command, "--work-dir", str(folder / "run"), "--cfg-options", *options],
            check=True,
            cwd=ROOT,
            stdout=sys.stderr,
        )
        seconds = time.perf_counter() - started
        lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        scores = [record["score"] for record in records if record["split"] == "generation"]
        rewards = [record["reward"] for record in records if record["split"] == "train"]
        log = (folder / "run" / "train.log").read_text(encoding="utf-8")
        return {
            "seed": seed,
            "before": scores[0],
            "after": scores[-1],
            "steps": len(rewards),
            "reward": f"{rewards[0]:.2f} → {rewards[-1]:.2f}",
            "seconds": round(seconds),
            "warnings": [line for line in log.splitlines() if " warning: " in line],
        }


def main() -> int:
    """Run all seeds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objective", choices=["grpo", "best_of_n"], default="grpo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=13)
    parser.add_argument("--minimum", type=int, default=15, help="right answers that count as learned")
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    print(
        "| objective | seed | before | after | steps | reward | seconds |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    failed = 0
    for seed in arguments.seeds:
        row = run(arguments.objective, seed, arguments.steps, arguments.cfg_options)
        failed += row["after"] < arguments.minimum
        print(
            f"| {arguments.objective} | {seed} | {row['before']:g} of {HELD_OUT} | {row['after']:g} of {HELD_OUT} "
            f"| {row['steps']} | {row['reward']} | {row['seconds']} |",
            *row["warnings"],
            sep="\n",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
