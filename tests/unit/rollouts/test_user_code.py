"""Calls of user code: timeout, exits, and one line for each error."""

import threading

import pytest
from helpers.bad_rewards import Unprintable

from xft.errors import DataError
from xft.rollouts.user_code import call_with_timeout, describe_error


def test_a_function_returns_or_raises_in_the_caller() -> None:
    assert call_with_timeout(lambda: 3, 60, "key") == 3
    with pytest.raises(ZeroDivisionError):
        call_with_timeout(lambda: 1 // 0, 60, "key")


def test_a_function_that_hangs_leaves_only_a_daemon() -> None:
    event = threading.Event()
    before = set(threading.enumerate())
    with pytest.raises(TimeoutError) as caught:
        call_with_timeout(event.wait, 0.05, "rollout.reward_timeout")
    (left,) = set(threading.enumerate()) - before
    assert left.daemon
    event.set()
    assert "rollout.reward_timeout" in str(caught.value)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_function_cannot_end_the_run(error: type[BaseException]) -> None:
    def work() -> None:
        raise error

    with pytest.raises(RuntimeError) as caught:
        call_with_timeout(work, 60, "key")
    assert str(caught.value) == f"raised {error.__name__}"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("answer"), "KeyError: 'answer'"),
        (ValueError("returned 3; expected text"), "returned 3; expected text"),
        (DataError("the row is empty"), "the row is empty"),
        (TimeoutError("takes more than 1 s"), "takes more than 1 s"),
        (ValueError("first\nsecond"), "ValueError: first second"),
        (Unprintable(), "Unprintable: without a text (RuntimeError)"),
    ],
)
def test_an_error_is_one_line(error: Exception, text: str) -> None:
    assert describe_error(error) == text
