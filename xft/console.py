"""What people read while xft works: few plain lines, and no noise from libraries."""

import logging
import os
import re
import sys
import warnings

LOGGER = logging.getLogger("xft")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def say(text: str = "") -> None:
    """Print a line for the person who waits, and keep it in the log file where there is one."""
    LOGGER.info(text)


def setup(quiet: bool = False) -> None:
    """Send lines to the terminal. ``quiet`` is for ranks other than the first."""
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for handler in [each for each in LOGGER.handlers if not isinstance(each, logging.FileHandler)]:
        LOGGER.removeHandler(handler)
    terminal = logging.StreamHandler(sys.stdout)
    terminal.setFormatter(logging.Formatter("%(message)s"))
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
    ):
        logging.getLogger(name).setLevel(logging.ERROR)


def hush_progress_bars() -> None:
    """The bars of transformers, which are switched off by a call."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def printable(text: str) -> str:
    """What a stranger wrote, such as a model, without the control characters that would move the cursor,
    rename the window, or worse."""
    return _CONTROL.sub("\ufffd", text)
