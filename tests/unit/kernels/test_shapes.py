import pytest

from xft.kernels.shapes import MULTIPLE, round_up


@pytest.mark.parametrize("count", [0, 1, MULTIPLE - 1, MULTIPLE, MULTIPLE + 1, 1000])
def test_round_up_returns_the_smallest_multiple_that_is_not_smaller(count: int) -> None:
    rounded = round_up(count)
    assert rounded % MULTIPLE == 0
    assert count <= rounded < count + MULTIPLE
