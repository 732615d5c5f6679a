"""Terminal output of xft: log lines, color, and silencing of libraries."""

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from xft.errors import XftError

LOGGER = logging.getLogger("xft")
BOLD, GREEN, RED, YELLOW, GRAY, RESET = (
    "\033[1m",
    "\033[32m",
    "\033[31m",
    "\033[33m",
    "\033[90m",
    "\033[0m",
)
HIGHLIGHT = ("\ue010", "\ue011")
"""Characters that open and close a highlight: rendered green with color, ``[[ ]]`` without."""
_ESCAPED_MARKS = dict.fromkeys(map(ord, HIGHLIGHT), 0xFFFD)

CONTROL_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
"""Translation table from control characters to their Unicode pictures."""

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters except newline and tab, line separators, bidirectional controls and lone surrogates."""


def escape_control_chars(text: str) -> str:
    """Replace characters that could move the cursor, reorder or fake text, or end the output with an error.

    ASCII control characters become their Unicode pictures (``␛``), others their code (``\\u202e``), which JSON and
    Python read as the same character. Newlines and tabs stay. The marks of a highlight are replaced too.
    """
    text = _UNSAFE.sub(_visible, text)
    return text.translate(_ESCAPED_MARKS)


def escape_line(text: str) -> str:
    """Escape text that must stay on one line: as :func:`escape_control_chars`, with newlines and tabs visible."""
    return escape_control_chars(text).replace("\n", "⏎").replace("\t", "→")


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else f"\\u{code:04x}"


def echo(
    text: str = "", *, styled: bool = False, end: str = "\n", error: bool = False, flush: bool = False
) -> None:
    """Print text with control characters escaped. All output of commands goes through this function.

    Args:
        text: the text; it may have several lines.
        styled: the text contains ANSI codes of :func:`colorize`, and its foreign parts are escaped already.
        end: printed after the text.
        error: print to stderr.
        flush: flush the stream.

    Raises:
        XftError: stdout cannot be written. An error on stderr is ignored, as nothing could report it.
    """
    shown = text if styled else escape_control_chars(text)
    if error:
        with suppress(OSError):
            print(shown, end=end, file=sys.stderr, flush=flush)
        return
    with _checked_output():
        print(shown, end=end, flush=flush)


@contextmanager
def _checked_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise XftError(
            f"standard output cannot be written ({error.strerror})", key="standard output"
        ) from error


def flush_output() -> None:
    """Write buffered text to stdout.

    Raises:
        XftError: stdout cannot be written, for instance because its disk is full.
    """
    with _checked_output():
        sys.stdout.flush()


def discard_output() -> None:
    """Send stdout to ``/dev/null``: Python flushes it again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed_streams() -> None:
    """Open ``/dev/null`` in place of standard streams that the caller has closed.

    Otherwise, the next file that is opened gets their numbers, and libraries print into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))


class HighlightFormatter(logging.Formatter):
    """Format records with control characters escaped, and render the highlight marks in them.

    Args:
        fmt: format string of :class:`logging.Formatter`.
        color: render highlights with ANSI colors instead of brackets.
    """

    def __init__(self, fmt: str, color: bool) -> None:
        super().__init__(fmt)
        begin, end = (GREEN, RESET) if color else ("[[", "]]")
        self._marks = {ord(HIGHLIGHT[0]): begin, ord(HIGHLIGHT[1]): end}

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return _UNSAFE.sub(_visible, super().format(record)).translate(self._marks)


class _TerminalHandler(logging.StreamHandler[TextIO]):
    """Write to the current ``sys.stdout``, which the live display replaces."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard output."""
        return sys.stdout

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record unless it is meant for the log file only."""
        if getattr(record, "terminal", True):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore that the terminal is gone or its disk is full: ``train.log`` has the line as well."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


def shorten(text: str, length: int) -> str:
    """Return untrusted text as one line of at most ``length`` characters, with control characters escaped."""
    line = escape_control_chars(" ".join(text.split()))
    return line if len(line) <= length else line[: length - 1] + "…"


NOTICE_SINKS: list[list[str]] = []
"""Stack of lists that collect notices while a live display owns the terminal."""


def signal_safe_notice(line: str) -> None:
    """Show a line from a signal handler, which may interrupt another print."""
    if NOTICE_SINKS:
        NOTICE_SINKS[-1].append(line)
    else:
        os.write(2, f"\n{escape_control_chars(line)}\n".encode())


def info(text: str = "", terminal: bool = True) -> None:
    """Print a line, and write it to the log file if there is one.

    Args:
        text: the line.
        terminal: ``False`` writes it to the log file only.
    """
    LOGGER.info(text, extra={"terminal": terminal})


def use_color() -> bool:
    """Whether stdout takes colors: it is a terminal and ``NO_COLOR`` is unset (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def colorize(text: str, code: str, enabled: bool) -> str:
    """Escape ``text``, and wrap it in an ANSI code if ``enabled``."""
    text = escape_control_chars(text)
    return f"{code}{text}{RESET}" if enabled else text


def format_bytes(size: float) -> str:
    """Format a number of bytes as ``3.2 GB`` (decimal units)."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def format_score(score: float) -> str:
    """Format a score, or a sum of scores, with up to two decimals: ``8``, ``3.47``."""
    return f"{score:.2f}".rstrip("0").rstrip(".")


def format_duration(seconds: float) -> str:
    """Format seconds as ``2h05m``, ``3m20s`` or ``12s``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


def setup(quiet: bool = False) -> None:
    """Send log lines to the terminal.

    Args:
        quiet: show errors only; used on ranks other than 0.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters outside the terminal's encoding are printed as "?" instead of raising.
            stream.reconfigure(errors="replace")
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for handler in list(LOGGER.handlers):
        if not isinstance(handler, logging.FileHandler):
            LOGGER.removeHandler(handler)
    terminal = _TerminalHandler()
    terminal.setFormatter(HighlightFormatter("%(message)s", use_color()))
    terminal.setLevel(logging.ERROR if quiet else logging.INFO)
    LOGGER.addHandler(terminal)


def silence_libraries() -> None:
    """Turn off progress bars, warnings and advice of third-party libraries."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not (sys.stderr and sys.stderr.isatty()):
        # In a file or a pipe, every change of a bar is a line. tqdm reads this when it is imported.
        os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Why: torch logs a C++ stack for an error that it also raises.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings(
        "ignore", category=UserWarning, module=r"(torch|peft|transformers|bitsandbytes)\b.*"
    )
    for name in (
        "bitsandbytes",
        "transformers",
        "peft",
        "datasets",
        "mmengine",
        "torch.distributed",
        "huggingface_hub",
        "mlflow",
        "alembic",
        "lm_eval",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    # DeepSpeed sets its own level on import, and accelerate imports it if it is installed.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)


def silence_progress_bars() -> None:
    """Turn off the progress bars of transformers."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
