"""``xft eval``."""

import argparse

from xft.commands.shared import Command, add_trust, importing, require_at_least


def _add_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--data", metavar="FILE", help="held-out rows to answer and compare with their references"
    )
    parser.add_argument("--format", metavar="NAME", help="format of these rows (default: that of the run)")
    parser.add_argument(
        "--tasks",
        metavar="A,B",
        help="tasks of lm-evaluation-harness, which must be installed, or YAML files of tasks",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="maximum number of rows of the file and of each task"
    )
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=256,
        metavar="N",
        help="maximum number of tokens of an answer (default: 256)",
    )
    parser.add_argument("--out", metavar="FILE", help="write the results to FILE as JSON")
    parser.add_argument(
        "--trust-config", action="store_true", help="execute the config.py of the run; read it first"
    )
    add_trust(parser)


def _eval(arguments: argparse.Namespace) -> None:
    with importing():
        from xft.training.evaluate import EvalOptions, evaluate_run

    require_at_least(arguments, 1, "--max-new-tokens", "--limit")
    tasks = [task.strip() for task in (arguments.tasks or "").split(",") if task.strip()]
    names = [name for name in EvalOptions.__dataclass_fields__ if name != "tasks"]
    evaluate_run(EvalOptions(**{name: vars(arguments)[name] for name in names}, tasks=tasks))


EVAL = Command(
    "evaluate a run: validation, sample questions, a file of rows, tasks",
    _add_eval,
    _eval,
    examples=(
        "xft eval runs/a",
        "xft eval runs/a --data held_out.jsonl --out results.json",
        "xft eval runs/a --tasks arc_easy --limit 100",
    ),
)
