"""``xft eval``: what a trained model is worth."""

import argparse

from xft.commands.shared import Command, add_trust, importing
from xft.errors import ConfigError


def _add_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--data", metavar="FILE", help="rows that were not trained on, to answer and compare"
    )
    parser.add_argument("--format", metavar="NAME", help="of these rows (default: that of the run's own)")
    parser.add_argument(
        "--tasks",
        metavar="A,B",
        help="tasks of lm-evaluation-harness, where it is installed, or YAML files of its kind",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="the most rows of the file, and of each task"
    )
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=256,
        metavar="N",
        help="the most tokens of an answer (default: 256)",
    )
    parser.add_argument("--out", metavar="FILE", help="write what was found there, as JSON")
    parser.add_argument(
        "--trust-config", action="store_true", help="run the run's config.py as Python: read it first"
    )
    add_trust(parser)


def _eval(arguments: argparse.Namespace) -> None:
    with importing():
        from xft.training.evaluate import EvalOptions, evaluate_run

    if arguments.max_new_tokens < 1 or (arguments.limit is not None and arguments.limit < 1):
        raise ConfigError("--max-new-tokens and --limit must be at least 1")
    tasks = [each.strip() for each in (arguments.tasks or "").split(",") if each.strip()]
    known = {each: getattr(arguments, each) for each in EvalOptions.__dataclass_fields__ if each != "tasks"}
    evaluate_run(EvalOptions(**known, tasks=tasks))


EVAL = Command(
    "evaluate a run: validation, sample questions, a file of rows, tasks",
    _add_eval,
    _eval,
    examples=(
        "xft eval runs/a",
        "xft eval runs/a --data held_out.jsonl --out found.json",
        "xft eval runs/a --tasks arc_easy --limit 100",
    ),
)
