"""Print an error that several ranks raise only once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256

from torch import distributed
from torch._C._distributed_c10d import Store, TCPStore

STORE_TIMEOUT = timedelta(seconds=10)
"""Limit for one request to the store. A rank that gets no answer prints its error itself."""


@contextmanager
def report_once(message: str) -> Iterator[bool]:
    """Yield whether this rank is the one to print ``message``.

    The first rank that claims a message in the ranks' store prints it inside the context. The other ranks
    wait until it is printed, because a launcher ends all ranks as soon as one of them exits. Without a reachable store,
    and after the claiming rank has died, the answer is True.

    Args:
        message: full text of the error; ranks with different errors print all of them.
    """
    key = f"xft/error/{sha256(message.encode()).hexdigest()}"
    is_claimed = False
    try:
        store = _connect()
        if store is not None:
            is_claimed = store.add(key, 1) > 1
        if store is not None and is_claimed:
            store.wait([f"{key}/printed"], STORE_TIMEOUT)
    except (RuntimeError, ValueError):
        store, is_claimed = None, False
    yield not is_claimed
    if store is not None and not is_claimed:
        try:
            store.set(f"{key}/printed", "1")
        except (RuntimeError, ValueError):
            return


def _connect() -> Store | None:
    """Return the store of the process group, or before there is one the store that torchrun's agent hosts."""
    if distributed.is_initialized():
        store: Store = distributed.distributed_c10d._get_default_store()
        store.set_timeout(STORE_TIMEOUT)
        return store
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, timeout=STORE_TIMEOUT)
