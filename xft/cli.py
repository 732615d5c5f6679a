"""Parse the command line and run a command. Each command imports its own libraries, which keeps ``--help`` fast."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from xft.commands import COMMANDS, completion
from xft.errors import RunInterrupted, TrainingError, XftError
from xft.utils.console import (
    discard_output,
    echo,
    escape_control_chars,
    escape_line,
    flush_output,
    open_closed_streams,
)
from xft.version import __version__

INTERRUPTED = 130
"""Exit code that shells report for Ctrl-C: 128 + SIGINT."""
FIRST_STEPS = """examples:
  xft copy smollm2_lora mine.py
  xft inspect-data mine.py
  xft train mine.py --work-dir runs/mine
  xft chat runs/mine

`xft COMMAND --help` shows what a command takes, with examples."""


class EscapingParser(argparse.ArgumentParser):
    """Parser whose errors, which quote the command line, escape control characters."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with code 2."""
        super().error(escape_control_chars(message))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``xft``."""
    parser = EscapingParser(
        prog="xft",
        description="Fine-tune language models from Python config files.",
        epilog=FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xft {__version__}")
    parser.set_defaults(launcher="none")  # commands other than training have no option for it
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=command.summary,
            description=command.summary,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add(subparser)
        subparser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    open_closed_streams()
    try:
        return _main(argv)
    except KeyboardInterrupt:  # before the command has begun, or with --debug
        if "--debug" in (sys.argv if argv is None else argv):
            raise
        echo("\ninterrupted", error=True)
        return INTERRUPTED


def _main(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    if completion.COMPLETE_ENV in os.environ:
        completion.complete(parser)
    arguments = parser.parse_args(argv)
    arguments.argv = list(sys.argv[1:] if argv is None else argv)
    from xft.utils import console

    console.setup()
    console.silence_libraries()
    # Why: the processes that xft and its libraries start must not import files of the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        exit_code = COMMANDS[arguments.command].run(arguments)
        flush_output()
        return exit_code or 0
    except XftError as error:
        if arguments.debug:
            raise
        _print_error(arguments, str(error), names_rank=not isinstance(error, TrainingError))
        return error.exit_code
    except MemoryError:
        _print_error(arguments, "out of memory; lower training.micro_batch_size or data.max_length")
        return 1
    except RunInterrupted as interrupt:
        echo(f"\n{interrupt}", error=True)
        return interrupt.exit_code
    except KeyboardInterrupt:
        if arguments.debug:
            raise
        echo("\ninterrupted", error=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe, as in `xft list | head`.
        discard_output()
        return 0
    except Exception as error:
        # A bug in xft or in a component of the user's, or a fault of the machine.
        if arguments.debug:
            raise
        first = escape_line((str(error).strip() or "no message").partition("\n")[0])
        _print_error(arguments, f"{type(error).__name__}: {first} (--debug shows the traceback)")
        return 1


def _print_error(arguments: argparse.Namespace, message: str, names_rank: bool = True) -> None:
    """Print an error on stderr, once if several ranks raise the same one.

    Args:
        arguments: parsed command line.
        message: text after ``error:``.
        names_rank: whether a rank other than 0 adds its number; errors of the training itself concern all ranks.
    """
    from xft.utils.system import rank_from_env

    launcher: str = arguments.launcher
    rank = rank_from_env(launcher)
    line = f"error: {f'rank {rank}: ' if rank and names_rank else ''}{message}"
    if launcher == "none":
        echo(line, error=True)
        return
    try:
        from xft.distributed.error_report import report_once
    except ImportError:  # torch itself cannot be imported, which is the error
        echo(line, error=True)
        return
    with report_once(message) as is_first:
        if is_first:
            echo(line, error=True, flush=True)
