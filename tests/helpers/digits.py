"""Handwritten digits, drawn from strokes with random errors, as conversations about a picture."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

QUESTION = "digit?"
_LEFT, _RIGHT, _TOP, _MIDDLE, _BOTTOM = 0.25, 0.75, 0.15, 0.5, 0.85
_RING = [
    (0.5 + 0.25 * math.cos(math.pi * k / 6), 0.5 + 0.35 * math.sin(math.pi * k / 6)) for k in range(13)
]
_STROKES: dict[int, Sequence[tuple[float, float]]] = {
    0: _RING,
    1: [(0.4, 0.3), (0.5, _TOP), (0.5, _BOTTOM)],
    4: [(0.4, _TOP), (_LEFT, 0.6), (_RIGHT, 0.6), (0.65, 0.4), (0.65, _BOTTOM)],
    7: [(_LEFT, _TOP), (_RIGHT, _TOP), (0.45, _BOTTOM)],
}
DIGITS = tuple(_STROKES)


def draw_digit(digit: int, side: int, generator: random.Random) -> Image.Image:
    """Draw a digit in black on white, with points, slant and pen that differ each time."""
    scale = 4
    picture = Image.new("RGB", (side * scale, side * scale), "white")
    slant, shift = generator.uniform(-0.15, 0.15), generator.uniform(-0.06, 0.06)
    points = [
        (
            (x + slant * (0.5 - y) + shift + generator.gauss(0, 0.02)) * side * scale,
            (y + generator.gauss(0, 0.02)) * side * scale,
        )
        for x, y in _STROKES[digit]
    ]
    width = generator.randint(side * scale // 12, side * scale // 8)
    ImageDraw.Draw(picture).line(points, fill="black", width=width, joint="curve")
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def write_digits(folder: Path, name: str, count: int, side: int, seed: int) -> Path:
    """Write pictures of digits, and a row about each: the question and the digit as its answer."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        digit = DIGITS[number % len(DIGITS)]
        image = f"{name}-{number}.png"
        draw_digit(digit, side, generator).save(folder / image)
        turns = [
            {"role": "user", "content": f"<image>\n{QUESTION}"},
            {"role": "assistant", "content": str(digit)},
        ]
        rows.append({"messages": turns, "images": [image]})
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file
