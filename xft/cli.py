"""Parse the command line and run a command. Each command imports its own libraries, which keeps ``--help`` fast."""

import argparse
import os
import re
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NoReturn

from xft.commands import COMMANDS, completion
from xft.commands.options import explain_option, resolve_options
from xft.errors import RunInterrupted, TrainingError, XftError, did_you_mean, is_out_of_memory
from xft.utils.console import (
    discard_output,
    echo,
    escape_control_chars,
    escape_line,
    flush_output,
    open_closed_streams,
)
from xft.utils.invocation import localize
from xft.version import __version__

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

INTERRUPTED = 130
"""Exit code that shells report for Ctrl-C: 128 + SIGINT."""
FIRST_STEPS = """examples:
  xft train smollm2_lora
  xft copy smollm2_lora mine.py
  xft inspect-data mine.py
  xft train mine.py training.epochs=2 --work-dir runs/mine
  xft chat runs/mine

`xft COMMAND --help` shows what a command takes, with examples."""


class Parser(argparse.ArgumentParser):
    """Parser that escapes control characters, and reports that ``--help`` cannot be written."""

    _is_intermixed = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, those after an option too: before Python 3.13, an optional one there is refused."""
        optional = [action.nargs == "?" for action in self._get_positional_actions()]
        if self._is_intermixed or not any(optional[1:]):
            return super().parse_known_args(args, namespace)
        self._is_intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixed = False

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse a command line. Words of ``CONFIG KEY=VALUE ...`` may come after options too."""
        options = completion.all_options(self)
        words = [_with_dashes(word, options) for word in (sys.argv[1:] if args is None else args)]
        arguments, extra = self.parse_known_args(words, namespace)
        unknown = [number for number, word in enumerate(extra) if re.match("--?[A-Za-z]", word)]
        if unknown or (extra and "words" not in arguments):
            following = [*extra[1:], ""]
            known = completion.options_of(self, arguments.command)
            lines = [explain_option(extra[number], following[number], known) for number in unknown]
            self.error("\n".join(lines) or f"unrecognized arguments: {' '.join(extra)}")
        if extra:
            arguments.words += extra
        return arguments

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with code 2."""
        if match := re.match(r"argument COMMAND: invalid choice: '(.*?)'", message, re.DOTALL):
            near = did_you_mean(match[1], COMMANDS)
            message = f"no command {match[1]!r}; {near}"
        super().error(escape_control_chars(message))

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        # The parser of Python ignores errors here; the interpreter prints a traceback when it ends.
        if file is not sys.stdout:
            super()._print_message(message, file)
            return
        try:
            echo(message, end="")
            flush_output()
        except BrokenPipeError:
            discard_output()
        except XftError as error:
            echo(f"error: {error}", error=True)
            self.exit(error.exit_code)


def _with_dashes(word: str, options: Collection[str]) -> str:
    """Return an option such as ``--work_dir`` as xft spells it."""
    option, equals, value = word.partition("=")
    dashed = option.replace("_", "-")
    return f"{dashed}{equals}{value}" if dashed in options else word


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``xft``."""
    parser = Parser(
        prog="xft",
        description="Fine-tune language models from Python config files.",
        epilog=localize(FIRST_STEPS),
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
            epilog=localize(command.epilog),
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
        if "words" in arguments:
            resolve_options(arguments)
        exit_code = COMMANDS[arguments.command].run(arguments)
        flush_output()
        return exit_code or 0
    except XftError as error:
        if arguments.debug:
            raise
        _print_error(arguments, str(error), names_rank=not isinstance(error, TrainingError))
        return error.exit_code
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
        if is_out_of_memory(error):
            fix = "free memory, raise the memory limit of the process, or lower training.micro_batch_size"
            _print_error(arguments, f"out of memory; {fix} or data.max_length")
            return 1
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
    launcher: str = arguments.launcher
    message = localize(message)
    if launcher == "none":
        echo(f"error: {message}", error=True)
        return
    # Why: this imports torch, for which the error of a short command need not wait.
    from xft.utils.system import rank_from_env

    rank = rank_from_env(launcher)
    line = f"error: {f'rank {rank}: ' if rank and names_rank else ''}{message}"
    try:
        from xft.distributed.error_report import report_once
    except ImportError:  # torch itself cannot be imported, which is the error
        echo(line, error=True)
        return
    with report_once(message) as is_first:
        if is_first:
            echo(line, error=True, flush=True)
