"""Write the rows of the vision demo: questions about emoji, split so that no held-out picture has a look-alike in training."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xft.data.emoji.pictures import Emoji, find_lookalikes, main_color, read_emoji
from xft.utils import console, paths
from xft.utils.temporary_folder import create_once

NAMES = ("emoji_train.jsonl", "emoji_val.jsonl", "emoji_questions.jsonl")
"""Files that :func:`write_rows` writes: ``xft://NAME`` in a config."""
KIND = "What kind of thing is this?"
COLOR = "What is its main color?"
HELD_OUT = 100
"""Number of held-out pictures."""
MAX_SET = 5
"""Largest set of look-alikes that may be held out: two dozen clocks would be a quarter of the pictures."""
_QUESTIONS = 5
"""Sample questions of each of both kinds."""
_VERSION = "1"
"""Version of the written files; part of the name of their folder."""


def unpack(name: str) -> Path:
    """Return a file of :data:`NAMES`; the first call writes the rows and pictures, in some seconds.

    Raises:
        DataError: a package is not installed.
    """
    folder = paths.cache_dir() / "data" / f"emoji-{_VERSION}"
    if not (folder / name).is_file():
        console.info(f"writing pictures of emoji into {folder} (once)")
        create_once(folder, NAMES[-1], write_rows)
    return folder / name


def write_rows(folder: Path, seed: int = 0) -> None:
    """Write the pictures of all emoji, and the rows of training, validation and sample questions.

    Args:
        folder: an empty folder.
        seed: selects the held-out pictures.

    Raises:
        DataError: a package is not installed.
    """
    from PIL import ImageOps

    emoji = read_emoji()
    colors = [main_color(item.picture) for item in emoji]
    held_out = choose_held_out(find_lookalikes([item.picture for item in emoji]), HELD_OUT, seed)
    generator = random.Random(seed)
    train, val = [], []
    for number, (item, color) in enumerate(zip(emoji, colors, strict=True)):
        answers = _answers(item, color)
        item.picture.save(folder / _file(item))
        if number in held_out:
            val += [_row([answer], _file(item)) for answer in answers]
            continue
        ImageOps.mirror(item.picture).save(folder / _file(item, mirrored=True))
        for mirrored in (False, True):
            train.append(_row(generator.sample(answers, len(answers)), _file(item, mirrored)))
    _write(folder / NAMES[0], train)
    _write(folder / NAMES[1], val)
    shown = generator.sample(sorted(held_out), len(held_out))
    _write(folder / NAMES[2], _questions([emoji[i] for i in shown], [colors[i] for i in shown]))


def choose_held_out(sets: Sequence[int], count: int, seed: int) -> set[int]:
    """Choose whole sets of pictures, ``count`` pictures in total at most, and no set of more than :data:`MAX_SET`.

    Args:
        sets: set of each picture.
        count: number of pictures; fewer are chosen if the sets do not add up to it.
        seed: selects the sets.

    Returns:
        Indices of pictures.
    """
    members: dict[int, list[int]] = {}
    for index, number in enumerate(sets):
        members.setdefault(number, []).append(index)
    order = [indices for indices in members.values() if len(indices) <= MAX_SET]
    random.Random(seed).shuffle(order)
    chosen: set[int] = set()
    for indices in order:
        if len(chosen) + len(indices) <= count:
            chosen.update(indices)
    return chosen


def _answers(item: Emoji, color: str | None) -> list[tuple[str, str]]:
    """Return questions about an emoji with their answers; that about the color only if it is clear."""
    kind = (KIND, f"It is {item.group}.")
    return [kind] if color is None else [kind, (COLOR, f"It is {color}.")]


def _row(answers: Sequence[tuple[str, str]], image: str) -> dict[str, Any]:
    messages = []
    for number, (question, answer) in enumerate(answers):
        mark = "<image>\n" if number == 0 else ""
        messages.append({"role": "user", "content": f"{mark}{question}"})
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages, "images": [image]}


def _questions(emoji: Sequence[Emoji], colors: Sequence[str | None]) -> list[dict[str, str]]:
    """Return sample questions about held-out emoji: about as many kinds and as many colors as there are."""
    kinds = _first_of_each([item.group for item in emoji])
    shades = [(index, color) for index, color in _first_of_each(colors) if color]
    return [
        *(_question(KIND, emoji[index], f"It is {kind}.") for index, kind in kinds[:_QUESTIONS]),
        *(_question(COLOR, emoji[index], f"It is {color}.") for index, color in shades[:_QUESTIONS]),
    ]


def _first_of_each(values: Sequence[str | None]) -> list[tuple[int, str | None]]:
    """Return the distinct values with the index of their first occurrence."""
    return [(index, value) for index, value in enumerate(values) if value not in values[:index]]


def _question(question: str, item: Emoji, answer: str) -> dict[str, str]:
    return {"question": question, "image": _file(item), "reference": answer, "scorer": "exact"}


def _file(item: Emoji, mirrored: bool = False) -> str:
    return f"{item.code}{'-mirrored' if mirrored else ''}.png"


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
