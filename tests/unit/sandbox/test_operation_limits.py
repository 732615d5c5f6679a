"""Limits of single operations."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from xft.sandbox.operation_limits import MAX_CHARS, NeedsIsolation, check_length, check_method


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("text".upper, ()),
        ("a b".replace, ("a", "b")),
        (",".join, (["a", "b"],)),
        ([1].index, (1,)),
        ({"a": 1}.items, ()),
        (datetime(2026, 1, 2).strftime, ("%d %b %Y",)),
    ],
)
def test_cheap_methods_are_allowed(method: Callable[..., Any], args: tuple[Any, ...]) -> None:
    check_method(method, args)


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("a".center, (10**9,)),
        ("{:1000000000}".format, (1,)),
        (("a" * 3000).replace, ("a", "b" * 3000)),
        (("a" * 3000).join, (["b"] * 3000,)),
        (",".join, (iter(["a"]),)),
        ([1].append, (1,)),
        (datetime(2026, 1, 2).strftime, ("%999999999d",)),
    ],
)
def test_methods_whose_cost_is_not_bounded_need_isolation(
    method: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    with pytest.raises(NeedsIsolation):
        check_method(method, args)


def test_strings_have_a_largest_length() -> None:
    check_length(MAX_CHARS)
    with pytest.raises(NeedsIsolation):
        check_length(MAX_CHARS + 1)
