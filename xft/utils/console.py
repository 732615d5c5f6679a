"""What people read while xft works: few plain lines, and no noise from libraries."""

import io
import logging
import os
import sys
import warnings
from typing import TextIO

LOGGER = logging.getLogger("xft")
BOLD, GREEN, RED, YELLOW, GREY, END = ("\033[1m", "\033[32m", "\033[31m", "\033[33m", "\033[90m", "\033[0m")
MARKS = ("\ue010", "\ue011")
"""Stand around what is to be seen at once: green in colour, ``[[ ]]`` without."""

PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
"""Characters that a terminal would obey and a page would swallow, to characters that picture them."""


def harmless(text: str) -> str:
    """A stranger's text for the terminal: what would be obeyed there, and what marks are, is pictured."""
    c1 = dict.fromkeys(range(128, 160), 65533)
    return text.translate({**PICTURES, **c1, **dict.fromkeys(map(ord, MARKS), 0xFFFD)})


class Lines(logging.Formatter):
    """Lines as they are, with what is in marks made visible.

    Args:
        form: as :class:`logging.Formatter` takes it.
        colour: whether they go to where colour is seen.
    """

    def __init__(self, form: str, colour: bool) -> None:
        super().__init__(form)
        begin, end = (GREEN, END) if colour else ("[[", "]]")
        self._marks = {ord(MARKS[0]): begin, ord(MARKS[1]): end}

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        return super().format(record).translate(self._marks)


class _Terminal(logging.StreamHandler[TextIO]):
    """Writes to what standard output is at the moment: the live view stands in for it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard output."""
        return sys.stdout

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless it is for the log file alone."""
        if getattr(record, "terminal", True):
            super().emit(record)


NOTICES: list[list[str]] = []
"""What draws on the terminal puts a list here while it does, and shows what comes into it."""


def notice(line: str) -> None:
    """Say something from a signal handler, which may come in the middle of a print."""
    if NOTICES:
        NOTICES[-1].append(line)
    else:
        os.write(2, f"\n{line}\n".encode())


def say(text: str = "", terminal: bool = True) -> None:
    """Print a line for the person who waits, and keep it in the log file where there is one.

    Args:
        text: the line.
        terminal: ``False`` keeps it in the log file only.
    """
    LOGGER.info(text, extra={"terminal": terminal})


def in_colour() -> bool:
    """Whether what is printed may be coloured: on a terminal, unless ``NO_COLOR`` is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def paint(text: str, colour: str, wanted: bool) -> str:
    """``text`` in a colour of these, where colour is wanted."""
    return f"{colour}{text}{END}" if wanted else text


def readable(size: float) -> str:
    """A number of bytes, as ``3.2 GB``."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def clock(seconds: float) -> str:
    """``2h05m``, ``3m20s`` or ``12s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def setup(quiet: bool = False) -> None:
    """Send lines to the terminal. ``quiet`` is for ranks other than the first."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character shows a question mark; no run ends for it.
            stream.reconfigure(errors="replace")
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for handler in [each for each in LOGGER.handlers if not isinstance(each, logging.FileHandler)]:
        LOGGER.removeHandler(handler)
    terminal = _Terminal()
    terminal.setFormatter(Lines("%(message)s", in_colour()))
    terminal.setLevel(logging.ERROR if quiet else logging.INFO)
    LOGGER.addHandler(terminal)


def hush_libraries() -> None:
    """Keep progress bars and advice of the libraries below us off the terminal."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
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
    # It sets its own level when it is imported, which accelerate does wherever it is installed.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)


def hush_progress_bars() -> None:
    """The bars of transformers, which are switched off by a call."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
