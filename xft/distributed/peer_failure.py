"""A rank that is gone: the others must not wait for ever, and must say whom they miss."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import distributed

from xft.errors import TrainingError

PATIENCE = 5.0
"""Seconds that a rank which has lost another waits for the rest to report."""
_SIGNS = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")
"""What gloo says; its errors have no class of their own."""


@contextmanager
def lost_peers() -> Iterator[None]:
    """Turn what a collective raises, when a rank has died or stalls, into a line that names the rank.

    A launcher that sees a rank die tells the others to end at once. They do, but not before they
    have said why.

    Raises:
        TrainingError: a rank is gone.
    """
    listens = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _end_unless_failing) if listens else None
    try:
        yield
    except RuntimeError as error:
        if not distributed.is_initialized() or not _is_lost(error):
            _listen_as(before)
            raise
        raise TrainingError(_say(error)) from error
    except BaseException:
        _listen_as(before)
        raise
    _listen_as(before)


def _listen_as(before: Any) -> None:
    if before is not None:
        signal.signal(signal.SIGTERM, before)


def _say(error: RuntimeError) -> str:
    ranks = distributed.get_world_size()
    missing = _missing(ranks)
    who = f"rank {', '.join(map(str, missing))} of {ranks}" if missing else f"one of the {ranks} ranks"
    # Without the place in gloo's code before it, and the advice behind it.
    reason = re.sub(r"^\[.*?\] ", "", str(error).strip().splitlines()[0]).partition(". This is")[0]
    return (
        f"{who} is gone: it was killed, ended with an error of its own, or did not answer within "
        f"strategy.timeout_minutes ({reason}); every rank ends here, and --resume goes on from the newest checkpoint"
    )


def _end_unless_failing(number: int, frame: FrameType | None) -> None:
    if sys.exception() is None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or any(each in str(error) for each in _SIGNS)


def _missing(ranks: int) -> list[int]:
    """The ranks that do not report, asked for over the store that the ranks met at."""
    own = distributed.get_rank()
    try:
        store = distributed.distributed_c10d._get_default_store()
        store.set(f"xft/lost/{own}", "here")
        until = time.monotonic() + PATIENCE
        missing = [each for each in range(ranks) if each != own]
        while missing and time.monotonic() < until:
            missing = [each for each in missing if not store.check([f"xft/lost/{each}"])]
            time.sleep(0.05)
    except (RuntimeError, ValueError):
        # The store is gone with the rank that kept it.
        return [0] if own != 0 else []
    return missing
