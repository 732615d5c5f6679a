"""``xft doctor``."""

import argparse

from xft.commands.shared import Command
from xft.errors import XftError


def _add(parser: argparse.ArgumentParser) -> None:
    del parser  # it takes nothing


def _run(arguments: argparse.Namespace) -> None:
    del arguments
    from xft.doctor import BROKEN, examine, shown
    from xft.utils.console import use_color

    findings = examine()
    print("\n".join(shown(findings, use_color())), flush=True)
    broken = [each.name for each in findings if each.level == BROKEN]
    if broken:
        raise XftError(f"{len(broken)} of these must be mended before a run: {', '.join(broken)}")
    warned = [each.name for each in findings if each.level == "warning"]
    print("\nready to train" + (f"; look at: {', '.join(warned)}" if warned else ""))


DOCTOR = Command(
    "see what is installed, what is missing, and the command that mends it",
    _add,
    _run,
    examples=("xft doctor",),
)
