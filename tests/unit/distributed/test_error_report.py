"""Print an error of several ranks once, agreed on through a store."""

from datetime import timedelta

import pytest
from torch._C._distributed_c10d import Store, TCPStore

from xft.distributed import error_report
from xft.distributed.error_report import report_once


@pytest.fixture
def agent_store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store such as torchrun's agent hosts for its ranks."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    return store


def _prints(message: str) -> bool:
    with report_once(message) as is_first:
        return is_first


def test_report_once_same_message_is_printed_by_first_rank_only(agent_store: Store) -> None:
    assert [_prints("a"), _prints("a"), _prints("b"), _prints("a")] == [True, False, True, False]


def test_report_once_after_claiming_rank_died_prints(
    agent_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_report, "STORE_TIMEOUT", timedelta(seconds=0.2))
    with report_once("a"):
        assert _prints("a")  # the first rank has claimed the message and not printed it yet


def test_report_once_without_store_prints_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    assert [_prints("a"), _prints("a")] == [True, True]


def test_report_once_with_unreachable_store_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port = store.port
    del store
    monkeypatch.setattr(error_report, "STORE_TIMEOUT", timedelta(seconds=0.5))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    assert _prints("a")
