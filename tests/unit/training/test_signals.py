"""Signals: remembered until a step has ended; the handlers from before come back."""

import os
import signal
import threading

import pytest

from xft.errors import RunInterrupted
from xft.training import signals
from xft.training.signals import Signals


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_terminate_is_remembered_and_said(capfd: pytest.CaptureFixture[str]) -> None:
    with Signals() as handlers:
        assert (handlers.stop_signal, handlers.save_requested) == (0, False)
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert handlers.stop_signal == signal.SIGTERM
    assert capfd.readouterr().err.count("asked to end") == 1


def test_the_first_interrupt_is_remembered_and_the_second_aborts() -> None:
    with Signals() as handlers:
        send(signal.SIGINT)
        assert handlers.stop_signal == signal.SIGINT
        assert not handlers.abort
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert handlers.abort


def test_an_interrupt_that_a_launcher_hands_on_is_not_a_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)
    with Signals(shared=True, quiet=True) as handlers:
        send(signal.SIGINT)
        now = 100.3
        send(signal.SIGINT)
        assert not handlers.abort
        now = 105.0
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_warning_asks_for_a_checkpoint_only() -> None:
    with Signals() as handlers:
        send(signal.SIGUSR1)
        assert (handlers.stop_signal, handlers.save_requested) == (0, True)


def test_the_handlers_from_before_come_back() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(each) for each in numbers]

    def fail() -> None:
        with Signals():
            assert [signal.getsignal(each) for each in numbers] != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [signal.getsignal(each) for each in numbers] == before


def test_in_another_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def enter() -> None:
        with Signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_exit_code_is_what_a_shell_reports() -> None:
    assert RunInterrupted(signal.SIGTERM, "saved").exit_code == 143
    assert RunInterrupted(signal.SIGINT, "saved").exit_code == 130
    assert not isinstance(RunInterrupted(signal.SIGINT, "saved"), Exception)
