"""Failed peers: errors of collectives are translated, and SIGTERM does not hide the reason."""

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from types import FrameType

import pytest
from torch import distributed

from xft.distributed import peer_failure
from xft.distributed.peer_failure import report_peer_failure
from xft.errors import TrainingError

CLOSED = "[../gloo/pair.cc:534] Connection closed by peer [10.0.0.1]:4021. This is usually a crash."


class BrokenStore(distributed.HashStore):
    """A store whose host has ended."""

    def set(self, key: str, value: str) -> None:
        raise RuntimeError("Broken pipe")


def join(monkeypatch: pytest.MonkeyPatch, rank: int, store: distributed.Store, world_size: int = 3) -> None:
    """Let this process be a rank whose group shares a store."""
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: world_size)
    monkeypatch.setattr(distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(distributed.distributed_c10d, "_get_default_store", lambda: store)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> distributed.Store:
    """The store of a group of three ranks, of which this is rank 1."""
    store = distributed.HashStore()
    join(monkeypatch, 1, store)
    monkeypatch.setattr(peer_failure, "SHUTDOWN_GRACE_S", 0.1)
    return store


@pytest.fixture(autouse=True)
def _restored_sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def failure(error: RuntimeError) -> str:
    with pytest.raises(TrainingError) as caught, report_peer_failure():
        raise error
    assert caught.value.__cause__ is error
    return str(caught.value)


@pytest.mark.parametrize(
    ("reporting", "missing"),
    [((), "rank 0, 2 of 3 is gone"), ((0,), "rank 2 of 3 is gone"), ((0, 2), "one of the 3 ranks is gone")],
)
def test_report_peer_failure_names_the_ranks_that_do_not_report(
    store: distributed.Store, reporting: tuple[int, ...], missing: str
) -> None:
    for rank in reporting:
        store.set(f"xft/peer_failure/{rank}", "alive")
    message = failure(RuntimeError(CLOSED))
    assert message.startswith(missing)
    assert "(Connection closed by peer [10.0.0.1]:4021)" in message
    assert store.check(["xft/peer_failure/1"])  # this rank has reported to its peers


@pytest.mark.parametrize(
    ("rank", "missing"), [(1, "rank 0 of 3 is gone"), (0, "one of the 3 ranks is gone")]
)
def test_report_peer_failure_without_store_suspects_the_rank_that_hosts_it(
    monkeypatch: pytest.MonkeyPatch, rank: int, missing: str
) -> None:
    join(monkeypatch, rank, BrokenStore())
    assert failure(RuntimeError(CLOSED)).startswith(missing)


def test_report_peer_failure_dist_error_of_any_text_is_translated(store: distributed.Store) -> None:
    assert "(wait timeout)" in failure(distributed.DistBackendError("wait timeout"))


def test_report_peer_failure_other_errors_pass(store: distributed.Store) -> None:
    for error in (RuntimeError("size mismatch"), ValueError("Connection closed by peer")):
        with pytest.raises(type(error)) as caught, report_peer_failure():
            raise error
        assert caught.value is error


def test_report_peer_failure_without_process_group_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: False)
    with pytest.raises(RuntimeError) as caught, report_peer_failure():
        raise RuntimeError(CLOSED)
    assert not isinstance(caught.value, TrainingError)


def handler(number: int, frame: FrameType | None) -> None:
    """Stand for the handler of a run."""


def raise_in_context(error: BaseException | None) -> None:
    with report_peer_failure():
        assert signal.getsignal(signal.SIGTERM) is not handler
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, ValueError("x"), RuntimeError("x"), KeyboardInterrupt()])
def test_report_peer_failure_restores_the_handler_of_sigterm(error: BaseException | None) -> None:
    signal.signal(signal.SIGTERM, handler)
    with nullcontext() if error is None else pytest.raises(type(error)):
        raise_in_context(error)
    assert signal.getsignal(signal.SIGTERM) is handler


def fail_and_get_sigterm() -> None:
    try:
        raise RuntimeError(CLOSED)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def test_report_peer_failure_sigterm_while_an_error_is_raised_is_ignored(store: distributed.Store) -> None:
    with pytest.raises(TrainingError), report_peer_failure():
        fail_and_get_sigterm()


def test_report_peer_failure_sigterm_without_an_error_ends_the_process() -> None:
    if (child := os.fork()) == 0:
        try:
            with report_peer_failure():
                os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
