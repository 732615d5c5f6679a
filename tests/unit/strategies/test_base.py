"""The interface of strategies."""

from typing import Any

import pytest

from xft.strategies import Strategy


def test_strategy_without_collectives_cannot_be_built() -> None:
    incomplete: Any = Strategy
    with pytest.raises(TypeError, match=r"barrier.*close.*gather.*reduce_sum"):
        incomplete("", 0, "cpu", None)
