"""Word-level differences between answers."""

from pathlib import Path

import pytest
from helpers.pictures import encoded, picture

from xft.reporting.generations_table import Piece, diff_words, prompt_history
from xft.reporting.html import environment


def marked(pieces: tuple[Piece, ...]) -> str:
    tags = {"": "{}", "del": "-{}-", "ins": "+{}+"}
    return "".join(tags[piece.change].format(piece.text) for piece in pieces)


@pytest.mark.parametrize(
    ("before", "after", "left", "right"),
    [
        (
            "the old file is here",
            "the new file was here",
            "the -old- file -is- here",
            "the +new+ file +was+ here",
        ),
        ("发票保存五年。", "发票保存十年。", "发票保存-五-年。", "发票保存+十+年。"),
        ("<b>", "<b> & more", "<b>", "<b>+ & more+"),
    ],
)
def test_diff_words_marks_changes(before: str, after: str, left: str, right: str) -> None:
    assert tuple(map(marked, diff_words(before, after))) == (left, right)


def test_question_has_thumbnails_of_its_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(20, 30)))
    paths = [str(tmp_path / "a.png"), str(tmp_path / "gone.png")]
    record = {"step": 0, "question": "what?", "answer": "a cat", "images": paths}
    shown, gone = prompt_history(1, [record]).images
    assert (shown.name, gone.name, gone.source) == ("a.png", "gone.png", "")
    template = environment().from_string(
        '{% from "_generations.html.j2" import prompt_card %}{{ prompt_card(prompt) }}'
    )
    page = template.render(prompt=prompt_history(1, [record]))
    assert f'src="{shown.source}"' in page
    relative = prompt_history(1, [{**record, "images": ["a.png"]}], tmp_path).images
    assert [image.source for image in relative] == [shown.source]
    assert "gone.png" in page
