"""``xft doctor``."""

import argparse

from xft.commands.shared import Command
from xft.errors import XftError


def _add(parser: argparse.ArgumentParser) -> None:
    del parser  # it takes nothing


def _run(arguments: argparse.Namespace) -> None:
    del arguments
    from xft.doctor import format_findings, run_checks
    from xft.utils.console import echo, use_color

    findings = run_checks()
    echo("\n".join(format_findings(findings, use_color())), styled=True, flush=True)
    broken = [finding.name for finding in findings if finding.level == "broken"]
    if broken:
        raise XftError(f"{len(broken)} of the checks failed, fix before training: {', '.join(broken)}")
    warnings = [finding.name for finding in findings if finding.level == "warning"]
    echo("\nready to train" + (f"; check: {', '.join(warnings)}" if warnings else ""))


DOCTOR = Command(
    "check the installation and print the command that fixes each problem",
    _add,
    _run,
    examples=("xft doctor",),
)
