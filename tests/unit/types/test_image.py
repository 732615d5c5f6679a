from xft.types import Image


def test_size_is_height_and_width() -> None:
    assert Image(height=3, width=5).size == (3, 5)
