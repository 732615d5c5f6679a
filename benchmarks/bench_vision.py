"""Train configs/smollm2_vision.py with several seeds, and count the answers about 100 held-out pictures.

python benchmarks/bench_vision.py --seeds 0 1 2          # 12 to 20 minutes a seed on two cores

The seed selects the held-out pictures too: none of them has a look-alike in training. Every question is asked alone.
`kind` and `color` are right answers to the two questions; color is asked where one color is clear. `swapped` asks the
question about the kind with the picture of another kind: the answer follows the picture that is shown, or keeps that of
the original. `report` is the score of the ten sample questions before and after training. Exits with 1 if a seed
misses a goal.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xft.data.emoji.rows import COLOR, KIND, NAMES, write_rows
from xft.evaluation import generate_answers
from xft.evaluation.prompts import EvalPrompt
from xft.evaluation.scorers import exact
from xft.models import TextGenerator
from xft.serving.session import open_session

ROOT = Path(__file__).resolve().parent.parent
GOALS = {"kind": 0.70, "color": 0.60, "follows": 0.65}
"""Smallest fractions of right answers."""
MOST_KEPT = 0.15
REPORT = (2, 6)
"""Largest score of the ten sample questions before training, and smallest one after it."""


def read_prompts(file: Path, question: str) -> list[EvalPrompt]:
    """Return the validation rows that ask a question, each as a prompt with its picture."""
    prompts = []
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        asked, answer = (message["content"] for message in row["messages"])
        if asked.endswith(question):
            image = str(file.parent / row["images"][0])
            prompts.append(EvalPrompt(question, answer, images=(image,)))
    return prompts


def swap(prompts: Sequence[EvalPrompt], seed: int) -> list[tuple[EvalPrompt, str]]:
    """Return each prompt with the picture of another one whose answer differs, and the answer for that picture."""
    generator = random.Random(seed)
    pairs = []
    for prompt in prompts:
        other = generator.choice([other for other in prompts if other.reference != prompt.reference])
        assert other.reference is not None
        pairs.append((EvalPrompt(prompt.question, prompt.reference, images=other.images), other.reference))
    return pairs


def measure(generator: TextGenerator, file: Path, seed: int) -> dict[str, Any]:
    """Return the fractions of right answers, and those of the most frequent answer for comparison."""
    figures: dict[str, Any] = {}
    for name, question in (("kind", KIND), ("color", COLOR)):
        prompts = read_prompts(file, question)
        results = generate_answers(generator, prompts, exact, 16)
        figures[name] = sum(result.score or 0 for result in results) / len(prompts)
        figures[f"{name}_count"] = len(prompts)
        figures[f"{name}_majority"] = Counter(prompt.reference for prompt in prompts).most_common(1)[0][
            1
        ] / len(prompts)
    pairs = swap(read_prompts(file, KIND), seed)
    results = generate_answers(generator, [prompt for prompt, _ in pairs], exact, 16)
    figures["keeps"] = sum(result.score or 0 for result in results) / len(pairs)
    follows = [exact_text(result.answer, shown) for result, (_, shown) in zip(results, pairs, strict=True)]
    figures["follows"] = sum(follows) / len(pairs)
    return figures


def exact_text(answer: str, reference: str) -> bool:
    """Return whether an answer equals its reference, as the scorer ``exact`` compares them."""
    return answer.strip().rstrip(".").casefold() == reference.rstrip(".").casefold()


def run(seed: int, folder: Path, extra: Sequence[str]) -> dict[str, Any]:
    """Train once in a folder, and measure the model."""
    rows = folder / "rows"
    rows.mkdir(parents=True)
    write_rows(rows, seed)
    train, val, questions = (str(rows / name) for name in NAMES)
    options = [f"data.path={train}", f"data.val_split={val}", f"eval_prompts={questions}", f"seed={seed}"]
    command = [sys.executable, "-m", "xft", "train", str(ROOT / "configs" / "smollm2_vision.py")]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--work-dir", str(folder / "run"), "--cfg-options", *options, *extra],
        check=True,
        cwd=ROOT,
        stdout=sys.stderr,
    )
    seconds = time.perf_counter() - started
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    scores = [record["score"] for record in records if record["split"] == "generation"]
    figures = measure(open_session(str(folder / "run")).generator, Path(val), seed)
    return {"seed": seed, "seconds": round(seconds), "before": scores[0], "after": scores[-1], **figures}


def misses(row: dict[str, Any]) -> list[str]:
    """Return the names of the goals that a run misses."""
    missed = [name for name, goal in GOALS.items() if row[name] < goal]
    missed += ["keeps"] if row["keeps"] > MOST_KEPT else []
    return missed + (["report"] if row["before"] > REPORT[0] or row["after"] < REPORT[1] else [])


def main() -> int:
    """Run all seeds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, help="keep rows and runs here")
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    print(
        "| seed | kind (most frequent) | color (most frequent) | swapped: follows | keeps | report | seconds | missed |"
        "\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    missed = False
    with tempfile.TemporaryDirectory() as name:
        for seed in arguments.seeds:
            row = run(seed, (arguments.folder or Path(name)) / str(seed), arguments.cfg_options)
            missed = missed or bool(misses(row))
            print(
                f"| {seed} | {row['kind']:.0%} of {row['kind_count']} ({row['kind_majority']:.0%}) "
                f"| {row['color']:.0%} of {row['color_count']} ({row['color_majority']:.0%}) "
                f"| {row['follows']:.0%} | {row['keeps']:.0%} | {row['before']:g} → {row['after']:g} "
                f"| {row['seconds']} | {', '.join(misses(row))} |",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
