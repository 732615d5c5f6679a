"""What several commands share."""

import argparse
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command of ``xft``.

    Attributes:
        summary: what it does, in a line.
        add: adds its arguments to its parser.
        run: does it; returns an exit code where that is not 0.
        examples: what a person types, for ``--help``.
        note: what ``--help`` says at its end.
    """

    summary: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    examples: Sequence[str] = ()
    note: str = ""

    @property
    def epilog(self) -> str:
        """What stands below the options in ``--help``."""
        shown = "\n".join(["examples:", *(f"  {each}" for each in self.examples)] if self.examples else [])
        return "\n\n".join(each for each in (shown, self.note) if each)


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries inside of this. They make a million objects and no garbage, and to look through them
    for some, again and again, is a fifth of the time until a command begins."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what changes a config, and how it is read."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="K=V",
        help="override values of the config, e.g. data.max_length=1024 adapter.r=8",
    )
    parser.add_argument(
        "--safe-config",
        action="store_true",
        help="run nothing of the config: for one from somebody else, such as their run's config.py",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the permission to run code that lies beside weights."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that lies beside the weights: read it first",
    )
