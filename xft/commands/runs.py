"""``xft runs``, ``xft report`` and ``xft compare``: a table and HTML pages of runs."""

import argparse

from xft.commands.shared import Command
from xft.utils.console import echo


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder; the run may still be in progress")
    parser.add_argument(
        "--out", metavar="FILE", help="page to write (default: report.html in the run folder)"
    )


def _report(arguments: argparse.Namespace) -> None:
    from xft.reporting import write_report

    echo(f"wrote {write_report(arguments.run, arguments.out)}: open it in a browser")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="2 to 8 run folders")
    parser.add_argument(
        "--out", metavar="FILE", default="compare.html", help="page to write (default: compare.html)"
    )


def _compare(arguments: argparse.Namespace) -> None:
    from xft.reporting import write_comparison

    echo(f"wrote {write_comparison(arguments.runs, arguments.out)}: open it in a browser")


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        metavar="DIR",
        nargs="*",
        default=["runs"],
        help="folders of runs, or runs (default: runs)",
    )


def _runs(arguments: argparse.Namespace) -> None:
    from xft.reporting.run_table import format_runs

    for line in format_runs(arguments.folders):
        echo(line)


RUNS = Command(
    "list runs with score, validation, time and steps",
    _add_runs,
    _runs,
    examples=("xft runs", "xft runs runs/mine"),
)
REPORT = Command(
    "write an HTML report of a run: curves, answers, data, settings",
    _add_report,
    _report,
    examples=("xft report runs/a",),
)
COMPARE = Command(
    "write an HTML page that compares runs",
    _add_compare,
    _compare,
    examples=("xft compare runs/a runs/b --out both.html",),
)
