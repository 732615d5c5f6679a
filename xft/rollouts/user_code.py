"""Call rewards and environments, which are user code, and format their errors."""

import threading
from collections.abc import Callable
from typing import TypeVar

from xft.errors import XftError
from xft.utils import console

T = TypeVar("T")


def call_with_timeout(function: Callable[[], T], timeout: float, key: str) -> T:
    """Call a function in a thread, with a timeout. Any :class:`Exception` that it raises is re-raised unchanged.

    Args:
        function: function without arguments.
        timeout: timeout in seconds.
        key: config key of the timeout, for the message.

    Raises:
        TimeoutError: the function did not return in time. Its thread cannot be stopped; it is a daemon thread, which ends
            with the process.
        RuntimeError: the function raised :class:`SystemExit`, :class:`KeyboardInterrupt` or another exception that is not
            an :class:`Exception`.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001  Raised below, in the thread of the caller.
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"takes more than {timeout:g} s ({key})")
    if failures and not isinstance(failures[0], Exception):
        raise RuntimeError(f"raised {type(failures[0]).__name__}") from failures[0]
    if failures:
        raise failures[0]
    return results[0]


def describe_error(error: Exception) -> str:
    """Return the message of an error as one printable line.

    The type of the error comes first, except for errors of xft, timeouts, and messages that begin with ``returned`` or
    ``raised``.
    """
    try:
        reason = str(error)
    except Exception as problem:  # noqa: BLE001  An error of a user may raise anything.
        reason = f"without a text ({type(problem).__name__})"
    if not (isinstance(error, (XftError, TimeoutError)) or reason.startswith(("returned ", "raised "))):
        reason = f"{type(error).__name__}: {reason}"
    return console.escape_control_chars(" ".join(reason.split()))
