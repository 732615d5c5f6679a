"""``xft report`` and ``xft compare``: runs as pages."""

import argparse

from xft.commands.shared import Command


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, also of a run that has not ended")
    parser.add_argument("--out", metavar="FILE", help="the page (default: report.html in the run folder)")


def _report(arguments: argparse.Namespace) -> None:
    from xft.reporting import write_report

    print(f"wrote {write_report(arguments.run, arguments.out)}: open it in a browser")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders, 2 to 8 of them")
    parser.add_argument(
        "--out", metavar="FILE", default="compare.html", help="the page (default: compare.html)"
    )


def _compare(arguments: argparse.Namespace) -> None:
    from xft.reporting import write_comparison

    print(f"wrote {write_comparison(arguments.runs, arguments.out)}: open it in a browser")


REPORT = Command(
    "write the page that shows a run: curves, answers, data, settings",
    _add_report,
    _report,
    examples=("xft report runs/a",),
)
COMPARE = Command(
    "write a page that shows runs side by side",
    _add_compare,
    _compare,
    examples=("xft compare runs/a runs/b --out both.html",),
)
