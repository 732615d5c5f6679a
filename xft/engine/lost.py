"""A rank that is gone: the others must not wait for ever, and must say whom they miss."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

from xft.errors import TrainingError

PATIENCE = 5.0
"""Seconds that a rank which has lost another waits for the rest to report."""
_SIGNS = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")
"""What gloo says; its errors have no class of their own."""


@contextmanager
def lost_peers() -> Iterator[None]:
    """Turn what a collective raises, when a rank has died or stalls, into a line that names the rank.

    Raises:
        TrainingError: a rank is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if not distributed.is_initialized() or not _is_lost(error):
            raise
        ranks = distributed.get_world_size()
        missing = _missing(ranks)
        who = f"rank {', '.join(map(str, missing))} of {ranks}" if missing else f"one of the {ranks} ranks"
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"{who} is gone: it was killed, ended with an error of its own, or did not answer within "
            f"strategy.timeout_minutes; every rank ends here, and --resume goes on from the newest checkpoint ({reason})"
        ) from error


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
