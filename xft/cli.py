"""The command line. ``xft --help`` imports nothing heavy: each command brings its own."""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from xft.commands import COMMANDS, completion
from xft.errors import TrainingError, XftError
from xft.version import __version__

INTERRUPTED = 130
"""What a shell reports for Ctrl-C: 128 + SIGINT."""
FIRST_SPEAKS = 2.0
"""Seconds that other ranks keep a mistake to themselves."""
FIRST_STEPS = """examples:
  xft copy smollm2_lora mine.py
  xft inspect-data mine.py
  xft train mine.py --work-dir runs/mine
  xft chat runs/mine

`xft COMMAND --help` shows what a command takes, with examples."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``xft``."""
    parser = argparse.ArgumentParser(
        prog="xft",
        description="Fine-tune language models from Python config files.",
        epilog=FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xft {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, each in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=each.summary,
            description=each.summary,
            epilog=each.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        each.add(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, or that of the mistake that ended it."""
    parser = build_parser()
    if completion.ASKED in os.environ:
        completion.answer(parser)
    arguments = parser.parse_args(argv)
    arguments.argv = list(sys.argv[1:] if argv is None else argv)
    from xft.utils import console

    console.setup()
    console.silence_libraries()
    # Components of the user's own, named in a config, are found from where the command is typed.
    sys.path.insert(0, os.getcwd())
    try:
        done = COMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
        return done or 0
    except XftError as error:
        if arguments.debug:
            raise
        print(f"error: {_of_rank(arguments, error)}{error}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        print(
            "error: the memory is full; lower training.micro_batch_size or data.max_length", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt as stop:
        # A signal that ended a run with a checkpoint brings the number of its own.
        code: int | None = getattr(stop, "exit_code", None)
        if arguments.debug and code is None:
            raise
        print(f"\n{stop}" if code is not None else "\ninterrupted", file=sys.stderr)
        return INTERRUPTED if code is None else code
    except BrokenPipeError:
        # The reader of our output has left, as `xft list | head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # Whatever else fails is a fault of xft, of a component of the user's, or of the machine.
        if arguments.debug:
            raise
        first = (str(error).strip() or "no message").splitlines()[0]
        print(f"error: {type(error).__name__}: {first} (--debug shows where)", file=sys.stderr)
        return 1


def _of_rank(arguments: argparse.Namespace, error: XftError) -> str:
    """Which rank an error is of, where it is not the first one.

    A mistake in config, data or model is most often found by all ranks. The first says it at once, and its launcher
    ends the others before they do so too.
    """
    from xft.utils.system import rank_by

    rank = rank_by(getattr(arguments, "launcher", "none"))
    if rank == 0 or isinstance(error, TrainingError):
        return ""
    time.sleep(FIRST_SPEAKS)
    return f"rank {rank}: "


if __name__ == "__main__":
    sys.exit(main())
