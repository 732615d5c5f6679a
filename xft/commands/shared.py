"""Shared parts of the commands."""

import argparse
import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from xft.errors import ConfigError


@dataclass(frozen=True)
class Command:
    """A command of ``xft``.

    Attributes:
        summary: one line for ``--help``.
        add: function that adds the arguments to the parser of the command.
        run: function that runs the command; returns an exit code, ``None`` for 0.
        examples: command lines for ``--help``.
        note: text at the end of ``--help``.
    """

    summary: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    examples: Sequence[str] = ()
    note: str = ""

    @property
    def epilog(self) -> str:
        """Text below the options in ``--help``."""
        lines = ["examples:", *(f"  {example}" for example in self.examples)] if self.examples else []
        return "\n\n".join(part for part in ("\n".join(lines), self.note) if part)


@contextmanager
def importing() -> Iterator[None]:
    """Disable garbage collection while large libraries are imported.

    Measured: imports allocate a million objects and no garbage; collecting takes a fifth of the startup time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-remote-code``."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code from the model folder; read it first",
    )


def add_load_in_bits(parser: argparse.ArgumentParser) -> None:
    """Add ``--load-in-bits``."""
    parser.add_argument(
        "--load-in-bits", type=int, choices=(4, 8), help="load the base model quantized to 4 or 8 bits"
    )


def require_at_least(arguments: argparse.Namespace, minimum: float, *options: str) -> None:
    """Check that options are finite and ``minimum`` or more, or ``None``.

    Raises:
        ConfigError: one of them is less, infinite or not a number.
    """
    for option in options:
        value = vars(arguments)[option.removeprefix("--").replace("-", "_")]
        if value is not None and not minimum <= value < math.inf:
            raise ConfigError(key=option, got=value, expected=f"at least {minimum}")
