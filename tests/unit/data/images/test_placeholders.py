"""Image placeholders in rendered text."""

import pytest
from helpers.fake_images import FakeProcessor

from xft.data.images.placeholders import expand_placeholders
from xft.errors import DataError
from xft.types import IMAGE_PLACE, Image, Segment

PROCESSOR = FakeProcessor()


def images(*sizes: tuple[int, int]) -> list[Image]:
    """Images of some sizes."""
    return [Image(height=height, width=width) for height, width in sizes]


def test_token_of_the_template_is_repeated_by_size() -> None:
    segments = [Segment("a <img>b<img>", False), Segment("c", True)]
    expanded = expand_placeholders(segments, images((1, 2), (1, 1)), PROCESSOR)
    assert expanded == [Segment("a <img><img>b<img>", False), Segment("c", True)]


def test_placeholder_of_a_template_without_images_is_replaced() -> None:
    expanded = expand_placeholders([Segment(f"a{IMAGE_PLACE}b", False)], images((1, 3)), PROCESSOR)
    assert expanded == [Segment("a[<img><img><img>]b", False)]


@pytest.mark.parametrize(("text", "count"), [("a", 0), ("<img><img>", 2)])
def test_number_of_tokens_that_differs_from_that_of_images_raises(text: str, count: int) -> None:
    with pytest.raises(DataError) as caught:
        expand_placeholders([Segment(text, False)], images((1, 1)), PROCESSOR)
    assert (caught.value.key, caught.value.got) == ("images", count)


def test_text_that_spells_the_token_raises() -> None:
    with pytest.raises(DataError) as caught:
        expand_placeholders([Segment("what is <img>?", False)], [], PROCESSOR)
    assert caught.value.got == 1


def test_answer_that_spells_the_token_raises() -> None:
    with pytest.raises(DataError) as caught:
        expand_placeholders([Segment("a", False), Segment("<img>", True)], images((1, 1)), PROCESSOR)
    assert caught.value.key == "images"
