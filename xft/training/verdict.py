"""The last lines of a run: whether the model is better, what to beware of, where files are, and what to type next."""

from collections.abc import Iterator
from pathlib import Path

from xft.models.reward_head import is_reward_model
from xft.reporting.outcome import describe, outcome_of, verdict, warnings
from xft.reporting.run_folder import read_run
from xft.reporting.run_summary import WIDTH, labeled
from xft.training.runner import Runner
from xft.utils import console
from xft.utils.command_line import command, short_path
from xft.utils.console import format_duration


def print_verdict(runner: Runner, final: Path, comparison: object, report: Path | None) -> None:
    """Print the verdict of a finished run.

    Args:
        runner: of the run.
        final: folder of the final model.
        comparison: result of its verification.
        report: page of the run, if it was written.
    """
    for line in format_verdict(runner.run_dir, final, comparison, report):
        console.info(line)
    for line in next_commands(runner):
        console.info(f"  {line}")


def format_verdict(run_dir: Path, final: Path, comparison: object, report: Path | None) -> Iterator[str]:
    """Yield the verdict, the figures behind it, warnings, and where the files are."""
    run = read_run(run_dir)
    outcome = outcome_of(run)
    yield ""
    yield "─" * WIDTH
    yield from labeled("result", verdict(outcome))
    if outcome.score is not None:
        yield from labeled("score", describe(outcome.score))
    if (validation := outcome.validation) is not None:
        yield from labeled("val", f"{validation.name} {describe(validation)}")
    if outcome.general is not None:
        yield from labeled("general", describe(outcome.general))
    seconds = outcome.seconds
    if seconds is not None:
        yield from labeled("time", f"{format_duration(seconds)}, {outcome.steps:,} steps")
    note = (
        f"weights of step {outcome.final_step:,}, reloaded and compared with the live model: {comparison}"
    )
    yield from labeled("saved", f"{short_path(final)} ({note})")
    if report is not None:
        yield from labeled("report", short_path(report))
    for warning in warnings(outcome, run):
        yield from labeled("warning", warning)


def next_commands(runner: Runner) -> Iterator[str]:
    """Yield three commands that use the model of a run."""
    run, model = short_path(runner.run_dir), runner.unwrapped_model
    if is_reward_model(model):
        path = runner.cfg["data"].get("path")
        yield command("score", run, path if isinstance(path, str) else "ROWS.jsonl")
    else:
        yield command("chat", run)
    merge = ["--merge"] if hasattr(model, "peft_config") else []
    yield command("convert", run, f"{run}-export", *merge)
    yield command("runs")
