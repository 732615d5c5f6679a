"""Detect a failed peer: stop waiting in collectives, and report which ranks are missing."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import distributed

from xft.errors import TrainingError

SHUTDOWN_GRACE_S = 5.0
"""Seconds that a rank waits for the reports of its peers after a collective has failed."""
_CONNECTION_ERRORS = (
    "gloo/transport",
    "Connection closed by peer",
    "Connection reset by peer",
    "Timed out waiting",
)
"""Parts of gloo's messages; gloo has no exception class of its own."""

_Handler = Callable[[int, FrameType | None], Any] | int | None


@contextmanager
def report_peer_failure() -> Iterator[None]:
    """Translate the error of a collective whose peer has died or stalls into an error that names the rank.

    A launcher that sees a rank die sends SIGTERM to the others. While one of them is raising its error, SIGTERM is
    ignored, which lets it print the reason.

    Raises:
        TrainingError: a peer has failed.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _exit_unless_unwinding) if in_main_thread else None
    try:
        yield
    except RuntimeError as error:
        if not distributed.is_initialized() or not _is_connection_error(error):
            _restore_handler(before)
            raise
        raise TrainingError(_describe(error)) from error
    except BaseException:
        _restore_handler(before)
        raise
    _restore_handler(before)


def _restore_handler(before: _Handler) -> None:
    if before is not None:
        signal.signal(signal.SIGTERM, before)


def _describe(error: RuntimeError) -> str:
    ranks = distributed.get_world_size()
    missing = _missing_ranks(ranks)
    who = f"rank {', '.join(map(str, missing))} of {ranks}" if missing else f"one of the {ranks} ranks"
    # Without the source location before the message and the advice after it.
    reason = re.sub(r"^\[.*?\] ", "", str(error).strip().splitlines()[0]).partition(". This is")[0]
    return (
        f"{who} is gone: it was killed, ended with an error of its own, or did not answer within "
        f"strategy.timeout_minutes ({reason}); all ranks stop, and --resume continues from the newest checkpoint"
    )


def _exit_unless_unwinding(number: int, frame: FrameType | None) -> None:
    if sys.exception() is None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _is_connection_error(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or any(
        text in str(error) for text in _CONNECTION_ERRORS
    )


def _missing_ranks(ranks: int) -> list[int]:
    """Return the ranks that do not report to the process group's store within ``SHUTDOWN_GRACE_S``."""
    rank = distributed.get_rank()
    keys = {peer: f"xft/peer_failure/{peer}" for peer in range(ranks)}
    try:
        store = distributed.distributed_c10d._get_default_store()
        store.set(keys.pop(rank), "alive")
        deadline = time.monotonic() + SHUTDOWN_GRACE_S
        while keys and time.monotonic() < deadline:
            keys = {peer: key for peer, key in keys.items() if not store.check([key])}
            # Polled, because a wait that times out makes torch log warnings of its own.
            time.sleep(0.05)
    except (RuntimeError, ValueError):
        # The store ended together with rank 0, which hosts it.
        return [0] if rank != 0 else []
    return list(keys)
